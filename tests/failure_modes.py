"""What can go wrong between a device and the city, and the tests that show that it costs no fact.

`MODES` is the list that `sync/README.md`'s promise is held to: each mode names at least one test.
`test_failure_modes.py` sees to it that every named test is one that pytest collects. A test in
`tests/process` uses real processes, brokers or disks; the others virtual time and real kernels.
"""

from __future__ import annotations

from typing import Final

_CITY_INTAKE: Final = "city/test_city_intake.py"
_CITY_KEYS: Final = "city/test_city_keys.py"
_CITY_POSTING: Final = "city/test_city_posting.py"
_APPLY: Final = "offline_cache/test_apply.py"
_APPLY_KILLED: Final = "offline_cache/test_apply_killed.py"
_KILLED: Final = "offline_cache/test_killed.py"
_MARKS: Final = "offline_cache/test_marks.py"
_OLD_COPIES: Final = "offline_cache/test_old_copies.py"
_RECORD: Final = "offline_cache/test_record.py"
_RETENTION: Final = "offline_cache/test_retention.py"
_SNAPSHOT: Final = "offline_cache/test_snapshot.py"
_STORE: Final = "offline_cache/test_store.py"
_UPGRADE: Final = "offline_cache/test_upgrade.py"
_BRIDGE_MOSQUITTO: Final = "process/test_bridge_mosquitto.py"
_BRIDGE_SCRIPTED: Final = "process/test_bridge_scripted.py"
_CHAOS_MOSQUITTO: Final = "process/test_chaos_mosquitto.py"
_CLUSTER_NATS: Final = "process/test_cluster_nats.py"
_DATES_FAILED: Final = "sync/test_dates_failed.py"
_DISK_FAULTS: Final = "process/test_disk_faults.py"
_FLUSH_STALL: Final = "process/test_flush_stall.py"
_IDENTITY_MOSQUITTO: Final = "process/test_identity_mosquitto.py"
_SCHOOL_DAY: Final = "process/test_school_day.py"
_THROTTLE: Final = "process/test_throttle_mosquitto.py"
_WIRE_FAILURES: Final = "process/test_wire_failures.py"
_INTAKE: Final = "sync/test_intake.py"
_INTAKE_SNAPSHOTS: Final = "sync/test_intake_snapshots.py"
_INTAKE_WORLDS: Final = "sync/test_intake_worlds.py"
_LIST_CUTS: Final = "sync/test_list_cuts.py"
_OUTAGES: Final = "sync/test_outages.py"
_PUMP: Final = "sync/test_pump.py"
_RECONNECT: Final = "sync/test_reconnect.py"
_RENEWAL: Final = "sync/test_renewal.py"
_DECISION: Final = "turnstile/test_decision.py"

_ALL_KILLED: Final = f"{_CHAOS_MOSQUITTO}::test_a_city_has_every_fact_once_whatever_is_killed"
_DAY: Final = f"{_SCHOOL_DAY}::test_a_school_day"
_CITY_SAYS: Final = (
    f"{_OUTAGES}::test_whatever_the_city_says_of_what_it_has_it_ends_with_everything_once"
)
_HEAD: Final = f"{_INTAKE}::test_each_reason_to_refuse_a_head"
_MANIFEST: Final = f"{_INTAKE_SNAPSHOTS}::test_each_reason_to_refuse_a_manifest"
_CHUNK: Final = f"{_INTAKE_SNAPSHOTS}::test_each_reason_to_refuse_a_chunk"
_DELTA: Final = f"{_INTAKE}::test_each_reason_to_refuse_a_delta"
_FRAUD: Final = f"{_INTAKE_WORLDS}::test_after_any_faults_every_list_is_the_citys"

# Mode -> tests, below `tests/`.
MODES: Final[dict[str, tuple[str, ...]]] = {
    # Brokers.
    "the broker acknowledges and forgets": (
        f"{_WIRE_FAILURES}::test_a_broker_that_acknowledges_and_forgets_costs_nothing",
        f"{_WIRE_FAILURES}::test_mosquitto_that_took_everything_and_came_back_empty_is_sent_it_again",
        _ALL_KILLED,
    ),
    "the broker's queue is full": (
        f"{_WIRE_FAILURES}::test_a_brokers_queue_cap_drops_batches_and_the_city_asks_for_them",
    ),
    "PUBACK with a failure code": (
        f"{_WIRE_FAILURES}::test_a_puback_with_a_failure_code_keeps_the_fact",
        f"{_BRIDGE_SCRIPTED}::test_a_failing_puback_is_told",
    ),
    "PUBACK never": (f"{_WIRE_FAILURES}::test_a_puback_that_never_comes_stops_nothing",),
    "broker killed, back with its store or empty": (_ALL_KILLED, _DAY),
    "one server of a cluster killed": (
        f"{_CLUSTER_NATS}::test_one_server_of_three_is_killed_in_the_middle_of_a_drain",
    ),
    "Receive Maximum 1": (
        f"{_WIRE_FAILURES}::test_receive_maximum_1_and_packets_of_8_kb_are_kept",
        f"{_WIRE_FAILURES}::test_mosquitto_with_a_window_of_one_and_packets_of_8_kb",
        f"{_BRIDGE_SCRIPTED}::test_the_brokers_receive_maximum_is_kept",
    ),
    "packets of at most 8 KB": (
        f"{_WIRE_FAILURES}::test_receive_maximum_1_and_packets_of_8_kb_are_kept",
        f"{_WIRE_FAILURES}::test_mosquitto_with_a_window_of_one_and_packets_of_8_kb",
    ),
    "the same client id twice": (
        f"{_WIRE_FAILURES}::test_the_same_client_id_twice_throws_the_older_out_and_loses_nothing",
        f"{_BRIDGE_SCRIPTED}::test_why_the_broker_ended_it_is_told",
        f"{_OLD_COPIES}::test_two_of_one_identity_on_two_brokers_at_once",
    ),
    # The city's word.
    "an acknowledgement is lost": (
        _CITY_SAYS,
        f"{_PUMP}::test_every_fate_of_the_first_messages_ends_well",
    ),
    "an acknowledgement of another epoch": (
        f"{_OUTAGES}::test_a_word_that_cannot_be_true_moves_no_mark_while_batches_are_lost",
        _CITY_SAYS,
        f"{_PUMP}::test_an_acknowledgement_that_cannot_be_true_moves_nothing",
    ),
    "an acknowledgement of the future": (
        f"{_OUTAGES}::test_a_word_that_cannot_be_true_moves_no_mark_while_batches_are_lost",
        _CITY_SAYS,
        f"{_PUMP}::test_an_acknowledgement_that_cannot_be_true_moves_nothing",
        f"{_OLD_COPIES}::test_a_liar_about_the_future_makes_us_ask_and_changes_nothing",
    ),
    "batches duplicated, reordered, overlapping": (
        f"{_CITY_INTAKE}::test_any_delivery_ends_with_every_fact_once",
        f"{_CITY_INTAKE}::test_replays_and_overlaps_are_one_entry",
        f"{_PUMP}::test_after_any_faults_everything_is_with_the_city_once",
    ),
    "the city is down, the broker up": (
        f"{_OUTAGES}::test_a_city_that_is_down_behind_a_broker_that_is_up",
        _ALL_KILLED,
    ),
    "the city is restored from a backup": (
        f"{_CITY_KEYS}::test_a_city_restored_from_a_backup_asks_again_and_ends_with_the_same_books",
        f"{_PUMP}::test_a_city_that_lost_facts_gets_them_again",
        f"{_RETENTION}::test_a_city_restored_from_before_what_was_deleted_is_told_of_the_gap",
    ),
    "a poison fact": (
        f"{_OUTAGES}::test_a_poison_fact_blocks_nobody_behind_it",
        f"{_CITY_INTAKE}::test_a_mistake_of_the_city_puts_one_fact_aside_and_goes_on",
    ),
    # The device's files.
    "the device is restored from an image": (
        f"{_OLD_COPIES}::test_an_image_restored_an_hour_later_and_both_go_on",
    ),
    "killed at every statement of a tap": (
        f"{_KILLED}::test_killed_anywhere_in_a_tap",
        f"{_DISK_FAULTS}::test_killed_at_any_write_or_flush",
    ),
    "killed at every statement of a drain": (
        f"{_KILLED}::test_killed_anywhere_while_draining",
        _ALL_KILLED,
    ),
    "killed at every statement of a swap": (
        f"{_APPLY_KILLED}::test_killed_anywhere_in_the_first_list",
        f"{_APPLY_KILLED}::test_killed_anywhere_in_a_delta",
        f"{_APPLY_KILLED}::test_killed_anywhere_in_a_snapshot",
    ),
    "the WAL lost its tail": (
        f"{_OLD_COPIES}::test_a_journal_that_lost_its_tail_is_closed_before_its_next_fact",
        f"{_RECORD}::test_a_journal_that_lost_its_last_fact_is_set_aside",
    ),
    "disk full": (
        f"{_DISK_FAULTS}::test_on_a_full_disk",
        f"{_STORE}::test_a_full_disk_is_a_device_fault_and_nothing_is_half",
    ),
    "disk says EIO": (f"{_DISK_FAULTS}::test_a_write_or_flush_that_fails_anywhere",),
    "disk read-only": (
        f"{_DISK_FAULTS}::test_a_write_or_flush_that_fails_anywhere",  # EROFS while it serves.
        f"{_STORE}::test_a_read_only_disk_is_a_device_fault",
    ),
    "a flush stalls for two seconds in the rush": (
        f"{_FLUSH_STALL}::test_a_flush_that_stalls_two_seconds_in_the_rush",
        f"{_FLUSH_STALL}::test_who_waited_too_long_is_asked_kindly_to_tap_again",
        f"{_FLUSH_STALL}::test_real_flushes_that_stall_lose_nothing",
    ),
    "two writers on one file": (
        f"{_STORE}::test_a_second_writer_in_another_process_is_a_setup_problem",
        f"{_STORE}::test_a_second_writer_in_this_process_is_a_setup_problem",
        f"{_RECORD}::test_a_journal_in_use_is_not_touched_by_a_second_agent",
    ),
    "a schema upgrade with a backlog": (
        f"{_UPGRADE}::test_both_upgraded_at_once_with_a_backlog",
        f"{_UPGRADE}::test_sync_upgraded_first_drains_the_older_journal",
    ),
    "a configuration change with a backlog": (
        f"{_OUTAGES}::test_a_configuration_change_with_a_backlog_loses_nothing",
    ),
    # Time.
    "the clock is at 1970": (
        f"{_IDENTITY_MOSQUITTO}::test_at_1970_the_time_is_fetched_and_then_everything_is_checked_by_it",
        f"{_DATES_FAILED}::test_a_clock_at_2099_or_1970_that_ntp_calls_right_is_mended_by_one_contact_for_time",
        f"{_OUTAGES}::test_a_clock_that_jumps_within_a_batch_reorders_and_loses_nothing",
    ),
    "the clock is at 2099": (
        f"{_DATES_FAILED}::test_a_clock_at_2099_or_1970_that_ntp_calls_right_is_mended_by_one_contact_for_time",
        f"{_MARKS}::test_a_time_beyond_sense_does_not_stay_for_ever",
        f"{_CITY_POSTING}::test_a_till_that_believes_in_2099_hides_no_later_day_from_the_limits",
        f"{_OUTAGES}::test_a_clock_that_jumps_within_a_batch_reorders_and_loses_nothing",
    ),
    "the clock jumps within a batch": (
        f"{_OUTAGES}::test_a_clock_that_jumps_within_a_batch_reorders_and_loses_nothing",
    ),
    "a week's outage": (
        f"{_OUTAGES}::test_a_weeks_outage_ends_with_every_fact_at_the_city",
        f"{_OUTAGES}::test_after_an_outage_longer_than_retention_what_the_city_lacks_is_still_there",
    ),
    "ten thousand return at once": (
        f"{_OUTAGES}::test_ten_thousand_that_lost_one_broker_do_not_return_at_once",
        f"{_RECONNECT}::test_devices_that_lost_one_broker_together_try_and_return_apart",
        f"{_OUTAGES}::test_a_throttle_spreads_what_a_tenth_of_them_bring",
        f"{_THROTTLE}::test_a_till_drains_no_faster_than_a_crowded_city_says",
    ),
    # Networks and certificates.
    "a TLS handshake that hangs": (f"{_BRIDGE_SCRIPTED}::test_a_handshake_that_hangs_is_given_up",),
    "a captive portal": (f"{_WIRE_FAILURES}::test_a_captive_portal_is_no_broker_and_no_refusal",),
    "a hole in DNS": (
        f"{_BRIDGE_SCRIPTED}::test_a_hanging_name_look_up_blocks_nobody_and_comes_too_late",
        f"{_BRIDGE_SCRIPTED}::test_too_many_hanging_look_ups_are_a_fault",
        f"{_WIRE_FAILURES}::test_a_name_that_is_nobodys_and_a_port_where_nobody_is_are_one_word",
    ),
    "half-open TCP": (
        f"{_WIRE_FAILURES}::test_a_half_open_connection_is_noticed_and_everything_sent_again",
        f"{_BRIDGE_SCRIPTED}::test_a_thread_that_hangs_and_a_line_that_is_dead_are_told",
    ),
    "the device's certificate has ended": (
        f"{_BRIDGE_MOSQUITTO}::test_mutual_tls_connects_the_right_and_names_what_is_wrong",
        f"{_RENEWAL}::test_no_certificate_ends_while_the_city_is_reached",
    ),
    "the authority's certificate has ended": (
        f"{_WIRE_FAILURES}::test_an_authority_that_ended_is_a_matter_of_dates",
    ),
    "the broker's own certificate has ended": (
        f"{_DATES_FAILED}::test_a_city_whose_certificate_has_ended_is_told_of_and_not_hammered",
        f"{_BRIDGE_MOSQUITTO}::test_a_broker_out_of_its_dates_is_reached_only_without_date_checks",
    ),
    "a broker that cannot serve just now": (
        f"{_WIRE_FAILURES}::test_a_broker_that_cannot_serve_is_not_taken_for_one_that_refuses_us",
    ),
    # Lists.
    "lists: rollback": (
        f"{_INTAKE}::test_a_head_below_one_seen_before_or_below_the_floor_is_a_rollback",
        f"{_APPLY}::test_nothing_older_goes_in_force",
        _DAY,
    ),
    "lists: freeze": (
        _HEAD,
        f"{_APPLY}::test_a_head_makes_the_list_fresh_and_nothing_else",
        f"{_DECISION}::test_the_older_the_list_the_more_a_person_decides",
    ),
    "lists: fast-forward": (
        _HEAD,
        f"{_INTAKE_SNAPSHOTS}::test_a_higher_list_epoch_comes_by_snapshot_only",
    ),
    "lists: mix-and-match": (
        _MANIFEST,
        f"{_SNAPSHOT}::test_a_chunk_of_another_snapshot_is_refused",
    ),
    "lists: wrong scope": (_HEAD, _DELTA, _MANIFEST),
    "lists: truncation": (
        _CHUNK,
        f"{_SNAPSHOT}::test_a_bad_chunk_is_refused_though_it_is_the_one_signed",
    ),
    "a snapshot cut at each chunk": (
        f"{_LIST_CUTS}::test_a_snapshot_cut_at_each_chunk_goes_on_where_it_was",
        f"{_INTAKE_SNAPSHOTS}::test_an_unanswered_snapshot_is_asked_for_anew_and_goes_on_where_it_stopped",
    ),
    "a delta is missing": (f"{_INTAKE}::test_a_gap_is_pulled_and_what_came_early_is_used",),
    "a delta comes again": (
        f"{_INTAKE}::test_a_delta_again_is_ignored_in_silence",
        _FRAUD,
    ),
    "a delta of another list epoch": (
        _DELTA,
        f"{_INTAKE_SNAPSHOTS}::test_a_new_list_epoch_drops_what_is_built_for_the_old",
    ),
    "the set digest does not fit": (
        f"{_INTAKE_SNAPSHOTS}::test_a_mismatch_asks_for_a_snapshot_once_per_back_off",
        f"{_APPLY}::test_a_delta_that_does_not_fit_changes_nothing",
    ),
    # Our own mistakes.
    "an exception in any callback": (
        f"{_WIRE_FAILURES}::test_an_exception_in_any_callback_is_told_and_the_next_connection_carries_on",
    ),
    "a dead thread": (f"{_BRIDGE_SCRIPTED}::test_a_thread_that_dies_is_told",),
}
