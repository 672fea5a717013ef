"""Goal: a session with a DESFire or an NTAG 424 is what NXP and its real cards say it is.

Method: whole exchanges of real cards and of NXP's application notes, word for word: every command
must be the recorded one, every answer must open. Each names where its copy was read.
"""

from __future__ import annotations

import pytest

from edge.readers.card_crypto import SessionKeys, session_keys_ev2, session_lrp
from edge.readers.dialogue import Failure
from edge.readers.secure_channel import (
    AesSuite,
    Answer,
    CommMode,
    Ev1Channel,
    Ev2Channel,
    FileRead,
    LrpSuite,
    authenticate_ev1,
    authenticate_ev2_first,
    authenticate_lrp_first,
    get_card_uid,
    read_file,
)
from hil.devices.cards.bench import follow
from hil.devices.cards.crypto import BlockCipher
from hil.devices.cards.session import AesSession, LrpSession

H = bytes.fromhex


# --- DESFire and EV2 --------------------------------------------------------------------------


def test_an_ev1_session_of_a_real_card() -> None:
    """The "File" example of "DESFire EV1 Communication Examples", as kept by a Python project.

    Every answer of the card ends in the CMAC of a chain that runs through all commands before.
    """
    channel = follow(
        authenticate_ev1(
            0, H("10182028303840485058606870788088"), H("40E7D27174CBA675E8EFBAB99C530E3D")
        ),
        ("90AA0000010000", "B351CB2465D4F33AC627FD6E87A168F2" + "91AF"),
        (
            "90AF000020044B6CAC343A0865895149649CA8DDE1F5AC4EC67BD208900AF02F049E05F0B000",
            "A2EE144B1012FBEB7B2F11132D95A4549100",
        ),
    )
    assert isinstance(channel, Ev1Channel)
    count = bytes(range(0x50)).hex()
    for command, data, mac in [
        ("CD05001100500000", "", "A75316AD1596B953"),
        ("6F", "05", "2D5FF67FFEC9D2D3"),
        ("F505", "00001100500000", "2AAC7517024E09DC"),
        ("3D05000000340000" + count[:0x68], "", "765C9DAA50ECB62F"),
        ("3D053400001C0000" + count[0x68:], "", "3E0AED986B8B0F37"),
        ("BD05000000300000", count[:0x60], "4C65F1F842262BAC"),
        ("BD05300000200000", count[0x60:], "F02205CF913C03C9"),
        ("DF05", "", "1BEF0D32B6D1D7F9"),
    ]:
        channel.command(H(command)[0], H(command)[1:], CommMode.PLAIN)
        opened = channel.open(Answer(status=0, data=H(data + mac)), CommMode.PLAIN, len(H(data)))
        assert opened == H(data)


def test_an_enciphered_ev1_read_of_a_real_card() -> None:
    """AESEncryptionTest.testAES3 of skjolber's desfire library: a read in two frames."""
    channel = follow(
        authenticate_ev1(5, bytes(16), H("5a77d11016db9eeba1d91cf52231182a")),
        ("90aa0000010500", "53e3a217994cd620aaa296263c0681d8" + "91af"),
        (
            "90af000020cd6921b787fd71d8265d9f9da15989746664352dd8fbc381f765c2de304bbe4e00",
            "ef14e5dcf035a1977ab13fa40196b5529100",
        ),
    )
    assert isinstance(channel, Ev1Channel)
    settings_read = Answer(status=0, data=H("00035412640000" + "4c4ffd2054e6dc1a"))
    channel.command(0xF5, b"\x0f", CommMode.PLAIN)
    assert isinstance(channel.open(settings_read, CommMode.PLAIN, 7), bytes)
    for last_block, mac, mac_of_settings in [
        ("9fa6ede94f55f8842c2a42ec323ebade", "6387b9fb6e13710e", "e054196e15a73059"),
        ("396fa1a5ceb8223221167a304fd919b2", "865d79b704fe67d9", "0fc9d749d885f4d5"),
    ]:
        channel._vector = H(last_block)  # What an enciphered write, not made here, leaves behind.
        assert channel.open(Answer(status=0, data=H(mac)), CommMode.MAC, 0) == b""
        channel.command(0xF5, b"\x0f", CommMode.PLAIN)
        again = Answer(status=0, data=H("00035412640000" + mac_of_settings))
        assert isinstance(channel.open(again, CommMode.PLAIN, 7), bytes)
    read = FileRead(file_no=15, offset=10, size=50, mode=CommMode.FULL)
    text = follow(
        read_file(channel, read),
        (
            "90bd0000070f0a000032000000",
            "f78f4020751ae34a145e1595b2950ef0708c68a63f6d33379875510d22aa650b"
            "1b5de30493a720d019cad101e3833a12" + "91af",
        ),
        ("90af000000", "dae3a626f0050822d62a04d24b383a189100"),
    )
    assert text == b"to write to the card" + bytes(4) + b"Another block of data." + bytes(4)


def test_the_first_authentication_of_an12343() -> None:
    """AN12343 rev. 1.1 table 16 (DESFire Light), as quoted by an EV3 library's tests."""
    channel = follow(
        authenticate_ev2_first(0, bytes(16), H("B04D0787C93EE0CC8CACC8E86F16C6FE")),
        ("9071000002000000", "24677DDBD46349E623798FD729006E79" + "91AF"),
        (
            "90AF0000203B50445F21D21D77D500794DEB245E5A754F5F901844259F4C9B31A5C7335ACD00",
            "04C6DBD67417ED0D31DDDE4D2E3FFAC2B4B074F638EEF7FFF9254963B65C7759" + "9100",
        ),
    )
    assert isinstance(channel, Ev2Channel)
    assert (channel.ti, channel.counter) == (H("8CF141F3"), 0)


CLEAR = b"\x22" * 25 + bytes(23)


def test_the_maced_read_of_an12343() -> None:
    """Table 24: the second command of its session."""
    keys = SessionKeys(encryption=bytes(16), mac=H("9366FA195EB566F5BD2BAD4020B83002"))
    channel = Ev2Channel(AesSuite(keys), ti=H("E2D3AF69"), counter=1)
    data = follow(
        read_file(channel, FileRead(file_no=0, size=48, mode=CommMode.MAC)),
        ("90AD00000F000000003000000D9BE191D596083400", CLEAR.hex() + "A49A44222D926666" + "9100"),
    )
    assert data == CLEAR


def test_the_full_read_of_an12343() -> None:
    """Table 26: the second command of its session."""
    keys = SessionKeys(
        encryption=H("FFBCFE1F41840A09C9A88D0A4B10DF05"), mac=H("37E7234B11BEBEFDE41A8F290090EF80")
    )
    channel = Ev2Channel(AesSuite(keys), ti=H("CD73D8E5"), counter=1)
    data = follow(
        read_file(channel, FileRead(file_no=0, size=48, mode=CommMode.FULL)),
        (
            "90AD00000F000000003000007CF94F122B3DB05F00",
            "8848D0F9B9FD4495770C89925B2A85C7274D350FA9029C484D43804886662DC4"
            "2D7F40A6D7A415E4A71EFF79EB8E5721AC3BF1CAAFE8EB2CAA2DC162E67A97A3"
            "8ED7888F22B3A587" + "9100",
        ),
    )
    assert data == CLEAR


def test_the_uid_of_an12196() -> None:
    """AN12196 7.3: GetCardUID in full mode, the same on NTAG 424 and DESFire."""
    keys = SessionKeys(
        encryption=H("2B4D963C014DC36F24F69A50A394F875"), mac=H("379D32130CE61705DD5FD8C36B95D764")
    )
    channel = Ev2Channel(AesSuite(keys), ti=H("DF055522"))
    uid = follow(
        get_card_uid(channel),
        (
            "90510000088E2C155ADDA99BE300",
            "70756055688505B52A5E26E59E329CD6595F672298EA41B79100",
        ),
    )
    assert uid == H("04958CAA5C5E80")


def test_a_card_that_answers_for_other_capabilities_is_not_believed() -> None:
    """The echo of what we sent guards against a change of the first command under way."""
    rnd_a, ti = bytes(range(16)), b"\x01\x02\x03\x04"
    key = BlockCipher(bytes(16))
    for ours, failure in [(bytes(6), None), (b"\x02" + bytes(5), Failure.BAD_ANSWER)]:
        step = authenticate_ev2_first(0, bytes(16), rnd_a)
        next(step)
        step.send(bytes(16) + b"\x91\xaf")
        with pytest.raises(StopIteration) as ended:
            proof = ti + rnd_a[1:] + rnd_a[:1] + bytes(6) + ours
            step.send(key.cbc_encrypt(proof) + b"\x91\x00")
        outcome = ended.value.value
        assert outcome is failure if failure else isinstance(outcome, Ev2Channel)


def test_data_of_another_length_is_not_taken_even_under_a_good_mac() -> None:
    rnd_a, rnd_b, ti = bytes(range(16)), bytes(16), b"\x01\x02\x03\x04"
    for clear, size, good in [
        (bytes(15) + b"\x80", 15, True),
        (bytes(14) + b"\x80\x00", 15, False),
        (bytes(16), 15, False),
    ]:
        card = AesSession(bytes(16), rnd_a, rnd_b, ti=ti, key_no=0, counter=1)
        data = card.encrypt(clear)
        keys = session_keys_ev2(bytes(16), rnd_a, rnd_b)
        channel = Ev2Channel(AesSuite(keys), ti=ti, counter=1)
        answer = Answer(status=0, data=card.said(0, data, "mac"))
        outcome = channel.open(answer, CommMode.FULL, size)
        assert outcome == bytes(15) if good else outcome is Failure.BAD_ANSWER


# --- NTAG 424, AES and LRP --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rnd_a", "challenge", "token", "proof", "ti"),
    [
        # AN12196 6.6 and 6.10, as quoted by nfc-ev2-crypto.
        (
            "13C5DB8A5930439FC3DEF9A4C675360F",
            "A04C124213C186F22399D33AC2A30215",
            "35C3E05A752E0144BAC0DE51C1F22C56B34408A23D8AEA266CAB947EA8E0118D",
            "3FA64DB5446D1F34CD6EA311167F5E4985B89690C04A05F17FA7AB2F08120663",
            "9D00C4DF",
        ),
        (
            "B98F4C50CF1C2E084FD150E33992B048",
            "B875CEB0E66A6C5CD00898DC371F92D1",
            "FF0306E47DFBC50087C4D8A78E88E62DE1E8BE457AA477C707E2F0874916A8B1",
            "0CC9A8094A8EEA683ECAAC5C7BF20584206D0608D477110FC6B3D5D3F65C3A6A",
            "7614281A",
        ),
    ],
)
def test_the_authentications_of_an12196(
    rnd_a: str, challenge: str, token: str, proof: str, ti: str
) -> None:
    channel = follow(
        authenticate_ev2_first(0, bytes(16), H(rnd_a)),
        ("9071000002000000", challenge + "91AF"),
        ("90AF000020" + token + "00", proof + "9100"),
    )
    assert isinstance(channel, Ev2Channel)
    assert (channel.ti, channel.counter) == (H(ti), 0)


def test_the_maced_answer_of_an12196() -> None:
    """AN12196 5.3: GetFileSettings under MAC."""
    keys = SessionKeys(encryption=bytes(16), mac=H("8248134A386E86EB7FAF54A52E536CB6"))
    channel = Ev2Channel(AesSuite(keys), ti=H("7A21085E"))
    assert channel.command(0xF5, b"\x02", CommMode.MAC) == H("90F5000009026597A457C8CD442C00")
    data = H("0040EEEE000100D1FE001F00004400004400002000006A0000")
    answer = Answer(status=0, data=data + H("2A474282E7A47986"))
    assert channel.open(answer, CommMode.MAC, len(data)) == data


def test_an_lrp_authentication_of_a_real_tag() -> None:
    """nfc-ev2-crypto, test_lrp_auth: key 3 as shipped."""
    channel = follow(
        authenticate_lrp_first(3, bytes(16), H("74D7DF6A2CEC0B72B412DE0D2B1117E6")),
        ("907100000303010200", "0156109A31977C855319CD4618C9D2AED2" + "91AF"),
        (
            "90AF00002074D7DF6A2CEC0B72B412DE0D2B1117E6189B59DCEDC31A3D3F38EF8D4810B3B400",
            "F4FC209D9D60623588B299FA5D6B2D710125F8547D9FB8D572C90D2C2A14E235" + "9100",
        ),
    )
    assert isinstance(channel, Ev2Channel)
    assert channel.ti == H("58EE9424")


def lrp_channel(context: str, ti: str, *, counter: int = 0, blocks: int = 1) -> Ev2Channel:
    """A session of nfc-ev2-crypto's test_lrp_cmd, which gives its vector and not the nonces."""
    raw = H(context)
    # Any nonces with this context make this session: RndB[15..10] of zero leaves RndA as it is.
    mac, encryption = session_lrp(bytes(16), raw[:8] + raw[18:], bytes(6) + raw[8:18])
    return Ev2Channel(LrpSuite(mac, encryption, counter=blocks), ti=H(ti), counter=counter)


def test_lrp_messages_of_a_real_tag() -> None:
    channel = lrp_channel("993c4eed466bfc0e7ee1d30c1ebd0dea6f6481e0d70e9a174e78", ti="4f5e8407")
    for command, answer in [
        ("9051000008c37d6270f674cc6d00", "5ec351196b8e2943db04fcd4a952f53da2830dc2258e45399100"),
        ("9051000008d65ccb81e559140000", "d80b735f7b4c8e7e8a3cdaaa4410f35f752769c8ebc48e1a9100"),
        ("90510000088c677d7dcc34937100", "9ccd031474a50199c696d8ef272e231a10173faf41b614e49100"),
    ]:
        assert follow(get_card_uid(channel), (command, answer)) == H("04940d2a2f7080")


def test_an_lrp_read_of_a_real_tag() -> None:
    # Before this read the tag was written to: one command, one enciphered block.
    channel = lrp_channel(
        "08a6953c60bc3d34e53766689732e2a203ff23855751d644ed51",
        ti="204f2276",
        counter=1,
        blocks=2,
    )
    data = follow(
        read_file(channel, FileRead(file_no=3, size=3, mode=CommMode.FULL)),
        (
            "90ad00000f0300000003000059858e133a7f487d00",
            "39665fae8af18feb23da1767eaf2274bb97fc66cc94377139100",
        ),
    )
    assert data == H("010203")


def test_a_tag_that_answers_for_other_capabilities_is_not_believed() -> None:
    rnd_a, rnd_b = bytes(range(16)), bytes(16)
    for ours, failure in [(b"\x02" + bytes(5), None), (bytes(6), Failure.BAD_ANSWER)]:
        card = LrpSession(bytes(16), rnd_a, rnd_b, ti=b"\x01\x02\x03\x04", key_no=0)
        step = authenticate_lrp_first(0, bytes(16), rnd_a)
        next(step)
        step.send(b"\x01" + rnd_b + b"\x91\xaf")
        sealed = card.encrypt(card.ti + bytes(6) + ours)
        with pytest.raises(StopIteration) as ended:
            step.send(sealed + card.mac(rnd_b + rnd_a + sealed) + b"\x91\x00")
        outcome = ended.value.value
        assert outcome is failure if failure else isinstance(outcome, Ev2Channel)
