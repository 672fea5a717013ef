// The officer's page: what the lanes show, who waits for a word, who is inside, and what may be done by
// hand. Every act is the station's own request; the station says who acts, from the card and the PIN.
import { ask, begin, button, draw, either, face, h, shape, state, t, toast, words } from "/common.js";

words({
  ru: {
    in: "Вход", out: "Выход", referrals: "Ждут вашего решения", nobody_waits: "Никто не ждёт",
    let_in: "Пропустить", refuse: "Отказать", left: "ещё {} с", sign_first: "Войдите, чтобы решать",
    open: "Открыть вручную", by_hand: "Действия", open_one: "Открыть на одного", why: "Причина", where: "Где", person: "Кто (если известен)",
    forgotten_card: "Забыл карту", visitor: "Посетитель", lost_card: "Карта утеряна", known_person: "Знаю в лицо",
    delivery: "Доставка", other_reason: "Другое", inside: "Сейчас внутри", muster: "Список присутствующих",
    lockdown: "Закрыть вход", lockdown_off: "Снять закрытие", lockdown_on: "ВХОД ЗАКРЫТ. Выход свободен.",
    lockdown_sure: "Закрыть вход для всех? Выход останется свободным.", forgive: "Простить",
    forgive_title: "Где человек — забыть", forgiven: "Забыто: следующий проход считается заново",
    fire_alarm: "ПОЖАРНАЯ ТРЕВОГА: турникет {} открыт", fire_clear: "Тревога окончена, турникет {} ещё открыт",
    fire_reset: "Вернуть турникет в работу", tamper: "Корпус турникета {} вскрыт", hold: "Турникет {}: удержание не работает",
    stuck: "Турникет {}: сигнал не меняется ({})", alerts: "Тревоги", seen: "Видел", children: "Передача детей",
    barred: "Этому человеку ребёнка отдавать НЕЛЬЗЯ", handover_open: "Не отметил, кого привёл или забирает",
    claims: "Просит подтвердить", brought: "привёл", collected: "забирает", no_child: "без ребёнка",
    confirm: "Подтвердить", at_time: "в {}", all: "Всего {}", name: "Имя", group: "Класс, группа", zone: "Где",
    nobody_inside: "По записям внутри никого нет", is_in: "в группе", is_out: "не в группе", alerts_wait: "Есть тревоги: войдите, чтобы увидеть",
    unknown: "Неизвестный", school: "Школа", disk: "Память станции отказывает: сообщите технику", of_last: "Открыть для {}",
    why_no_officer: "Сначала войдите: карта и ПИН", why_over: "Уже решено или истекло", why_lockdown: "Вход закрыт: сначала снимите закрытие",
    why_lane_down: "Турникет не работает", why_lane_busy: "Подождите: в турникете люди", why_disk: "Не записывается: ничего не сделано",
    why_unreadable: "Списки не читаются: попробуйте ещё раз", why_alarm_active: "Тревога ещё звучит", why_no_fire: "Тревоги нет",
    why_unknown_person: "Такого человека нет в списке", why_moved_on: "Экран уже показывает другое", why_seen: "Уже отмечено",
    why_not_recorded: "Не записывается: турникет остаётся открытым",
    why_unknown_decision: "Такого решения здесь не было", why_not_here: "Такого турникета или зоны здесь нет",
  },
  en: {
    in: "In", out: "Out", referrals: "Waiting for your word", nobody_waits: "Nobody waits",
    let_in: "Let in", refuse: "Refuse", left: "{} s left", sign_first: "Sign in to decide",
    open: "Open by hand", by_hand: "By hand", open_one: "Open for one", why: "Reason", where: "Where", person: "Who (if known)",
    forgotten_card: "Forgotten card", visitor: "Visitor", lost_card: "Lost card", known_person: "I know them",
    delivery: "Delivery", other_reason: "Other", inside: "Inside now", muster: "Muster list",
    lockdown: "Lock the way in", lockdown_off: "Lift the lockdown", lockdown_on: "LOCKDOWN. The way out is free.",
    lockdown_sure: "Lock the way in for everybody? The way out stays free.", forgive: "Forgive",
    forgive_title: "Forget where they are", forgiven: "Forgotten: the next passage counts anew",
    fire_alarm: "FIRE ALARM: turnstile {} is open", fire_clear: "The alarm is over, turnstile {} is still open",
    fire_reset: "Put the turnstile back to work", tamper: "Turnstile {}: its housing is open", hold: "Turnstile {}: it is not held",
    stuck: "Turnstile {}: a signal does not change ({})", alerts: "Alerts", seen: "Seen", children: "Children",
    barred: "This person may NOT have the child", handover_open: "Did not say which child",
    claims: "Asks you to confirm", brought: "brings", collected: "collects", no_child: "no child",
    confirm: "Confirm", at_time: "at {}", all: "{} in all", name: "Name", group: "Class, group", zone: "Where",
    nobody_inside: "By the records nobody is inside", is_in: "in", is_out: "not in", alerts_wait: "There are alerts: sign in to see them",
    unknown: "Unknown", school: "School", disk: "The station's disk refuses: tell the technician", of_last: "Open for {}",
    why_no_officer: "Sign in first: card and PIN", why_over: "It is over: decided or too late", why_lockdown: "The way in is locked: lift that first",
    why_lane_down: "The turnstile does not work", why_lane_busy: "Wait: there are people in the turnstile", why_disk: "It cannot be written down: nothing was done",
    why_unreadable: "The lists cannot be read: try again", why_alarm_active: "The alarm still sounds", why_no_fire: "There is no fire",
    why_unknown_person: "Nobody of this name is on the list", why_moved_on: "The screen shows another by now", why_seen: "Seen already",
    why_not_recorded: "It cannot be written down: the turnstile stays open",
    why_unknown_decision: "There was no such decision here", why_not_here: "No such turnstile or zone here",
  },
});
const REASONS = ["known_person", "forgotten_card", "lost_card", "visitor", "delivery", "other"];
const dash = (text) => (text === "other" ? "other_reason" : text);
const point = (one) => `${t(one.direction)} · ${one.access_point}`;
let muster = null; // While its dialogue is open, and no longer.

function lanes(answer) {
  draw(document.getElementById("lanes"), answer.screens, () => answer.screens.map((one) => h("article",
    { class: one.photo ? "tile photo" : "tile", "data-colour": one.colour, "data-state": one.state, "data-point": one.access_point },
    shape(one.colour), h("h2", {}, point(one)),
    h("div", { class: "say" },
      h("b", { class: "word" }, either(one.word, one.word_en)),
      h("p", { class: "reason" }, either(one.text, one.text_en)),
      h("p", { class: "name" }, [one.name, one.group].filter(Boolean).join(" · "))),
    one.photo && h("img", { src: `/photo/${one.photo}`, alt: one.name }))));
}

function alarms(answer) {
  const seen = [answer.lanes, answer.lockdown, answer.officer?.alerts_waiting, answer.staff.officer, answer.screens.map((one) => one.disk)];
  draw(document.getElementById("alarms"), seen, () => {
    const bars = [];
    for (const lane of answer.lanes ?? []) {
      for (const alarm of lane.alarms) {
        const [what, which] = alarm.split(" ");
        const bad = what === "fire_alarm" || what === "tamper";
        bars.push(h("div", { class: `bar row ${bad ? "bad" : "amber"}`, role: "alert" }, h("span", { class: "grow" }, t(what, lane.lane, which ?? "")),
          what.startsWith("fire_") && button(t("fire_reset"), () => ask("fire_reset", { lane: lane.lane }), { "data-key": `fire-${lane.lane}` })));
      }
    }
    if (answer.lockdown) {
      bars.push(h("div", { class: "bar row bad", role: "alert" }, h("span", { class: "grow" }, t("lockdown_on")),
        button(t("lockdown_off"), () => ask("lockdown", { on: false }), { "data-key": "unlock" })));
    }
    if (answer.officer?.alerts_waiting && !answer.staff.officer) bars.push(h("p", { class: "bar amber" }, t("alerts_wait")));
    if (answer.screens.some((one) => one.disk)) bars.push(h("p", { class: "bar amber" }, t("disk")));
    return bars;
  });
}

function referral(one, signed) {
  return h("li", { class: "person", "data-referral": one.referral }, face(one.photo, one.name),
    h("div", {}, h("b", {}, one.name || t("unknown")), h("p", {}, [one.group, point(one)].filter(Boolean).join(" · ")),
      h("p", { class: "quiet" }, either(one.text, one.text_en)),
      h("p", { class: "badge amber num", "data-left": one.referral }, t("left", one.seconds_left))),
    h("div", { class: "list" },
      button(t("let_in"), () => ask("referral", { referral: one.referral, confirm: true }), { class: "yes", disabled: !signed, "data-key": `yes-${one.referral}` }),
      button(t("refuse"), () => ask("referral", { referral: one.referral, confirm: false }), { class: "no", disabled: !signed, "data-key": `no-${one.referral}` })));
}
function handover(one) {
  const names = (ids) => one.children.filter((child) => ids.includes(child.child)).map((child) => child.name).join(", ");
  return h("li", { class: "list" }, h("b", {}, one.guardian),
    h("div", { class: "row" }, one.children.map((child) => h("div", { class: "row" }, face(child.photo, child.name),
      h("div", {}, h("b", {}, child.name), h("p", {}, [child.group, child.relation].filter(Boolean).join(" · ")),
        child.barred ? h("span", { class: "badge bad" }, t("barred")) : h("span", { class: "badge" }, t(child.present ? "is_in" : "is_out")))))),
    one.claim && h("div", { class: "row bar amber" },
      h("span", { class: "grow" }, `${t("claims")}: ${t(one.claim.what)} ${names(one.claim.children)}`),
      button(t("confirm"), () => ask("handover_confirm", { dialogue: one.dialogue, confirm: true }), { class: "yes", "data-key": `claim-${one.dialogue}` }),
      button(t("refuse"), () => ask("handover_confirm", { dialogue: one.dialogue, confirm: false }), { class: "no" })));
}
function left(answer) {
  const desk = answer.officer;
  const signed = Boolean(answer.staff.officer);
  const still = (list) => list.map(({ seconds_left, ...rest }) => rest);
  draw(document.getElementById("left"), [still(desk.referrals), still(desk.handovers), desk.alerts, signed], () => [
    h("section", { class: "panel", id: "referrals" },
      h("header", {}, h("h2", {}, t("referrals")), h("span", { class: "badge" }, String(desk.referrals.length))),
      desk.referrals.length ? h("ul", { class: "list" }, desk.referrals.map((one) => referral(one, signed))) : h("p", { class: "quiet" }, t("nobody_waits")),
      !signed && desk.referrals.length > 0 && h("p", { class: "quiet" }, t("sign_first"))),
    desk.alerts.length > 0 && h("section", { class: "panel", id: "alerts" }, h("h2", {}, t("alerts")),
      h("ul", { class: "list" }, desk.alerts.map((one) => h("li", { class: `bar row ${one.what === "barred" ? "bad" : "amber"}` },
        h("span", { class: "grow" }, `${t(one.what)}: ${one.guardian}${one.children.length ? ` — ${one.children.join(", ")}` : ""}, ${t("at_time", new Date(one.wall_ms).toLocaleTimeString("ru-RU", { hour: "2-digit", minute: "2-digit" }))}`),
        button(t("seen"), () => ask("alert_seen", { alert: one.alert }), { "data-key": `alert-${one.alert}` }))))),
    desk.handovers.length > 0 && h("section", { class: "panel", id: "handovers" }, h("h2", {}, t("children")),
      h("ul", { class: "list" }, desk.handovers.map(handover))),
  ]);
  for (const one of desk.referrals) {
    const place = document.querySelector(`[data-left="${CSS.escape(one.referral)}"]`);
    if (place) place.textContent = t("left", one.seconds_left);
  }
}

function dialogue(...content) {
  const box = document.getElementById("box");
  box.replaceChildren(h("div", { class: "panel" }, content));
  box.onclose = () => { muster = null; box.replaceChildren(); };
  box.showModal();
  return box;
}
const shut = () => document.getElementById("box").close();
function askOpen(answer) {
  const where = h("select", { id: "open-where", "aria-label": t("where") }, answer.screens.map((one) => h("option", { value: one.access_point }, point(one))));
  const why = h("select", { id: "open-why", "aria-label": t("why") }, REASONS.map((one) => h("option", { value: one }, t(dash(one)))));
  const known = answer.screens.filter((one) => one.cardholder).map((one) => ({ cardholder: one.cardholder, name: one.name }));
  const who = h("select", { id: "open-who", "aria-label": t("person") }, h("option", { value: "" }, "—"),
    known.map((one) => h("option", { value: one.cardholder }, one.name || one.cardholder)));
  dialogue(h("h2", {}, t("open")),
    h("label", {}, h("p", {}, t("where")), where), h("label", {}, h("p", {}, t("why")), why),
    known.length > 0 && h("label", {}, h("p", {}, t("person")), who),
    h("div", { class: "row" }, button(t("cancel"), shut), button(t("open_one"), async () => {
      const done = await ask("override", { access_point: where.value, why: why.value, cardholder: who.value });
      if (done.ok) shut();
    }, { class: "yes", id: "open-go" })));
}
function askLockdown() {
  dialogue(h("h2", {}, t("lockdown")), h("p", {}, t("lockdown_sure")),
    h("div", { class: "row" }, button(t("cancel"), shut), button(t("lockdown"), async () => {
      if ((await ask("lockdown", { on: true })).ok) shut();
    }, { class: "no", id: "lock-go" })));
}
async function showMuster() {
  muster = [];
  let more = true;
  while (more && muster) {
    const page = await ask("muster", { after: muster.at(-1)?.cardholder ?? "" });
    if (!page.ok || !muster) return;
    muster.push(...page.people);
    more = page.more && page.people.length > 0;
  }
  const rows = [...muster].sort((one, other) => one.group.localeCompare(other.group, "ru") || one.name.localeCompare(other.name, "ru"));
  dialogue(h("header", {}, h("h2", {}, t("muster")), h("span", { class: "badge" }, t("all", rows.length))),
    rows.length ? h("table", { id: "muster" }, h("tr", {}, h("th", {}, t("name")), h("th", {}, t("group")), h("th", {}, "")),
      rows.map((one) => h("tr", {}, h("td", {}, one.name || one.cardholder), h("td", {}, one.group),
        h("td", { class: "num" }, button(t("forgive"), async () => {
          if ((await ask("forgive", { cardholder: one.cardholder, zone: one.zone })).ok) toast(t("forgiven"));
        }))))) : h("p", {}, t("nobody_inside")),
    h("div", { class: "row" }, button(t("close"), shut)));
}
function right(answer) {
  const signed = Boolean(answer.staff.officer);
  draw(document.getElementById("right"), [answer.occupancy, answer.lockdown, signed], () => [
    h("section", { class: "panel", id: "inside" }, h("h2", {}, t("inside")),
      Object.entries(answer.occupancy).map(([zone, count]) => h("p", { class: "row" },
        h("span", { class: "grow" }, zone === "school" ? t("school") : zone), h("b", { class: "big num" }, String(count)))),
      button(t("muster"), showMuster, { disabled: !signed, id: "muster-open" })),
    h("section", { class: "panel" }, h("h2", {}, t("by_hand")),
      button(t("open"), () => askOpen(state.answer), { disabled: !signed, class: "main", id: "open" }),
      !answer.lockdown && button(t("lockdown"), askLockdown, { disabled: !signed, class: "no", id: "lock" }),
      !signed && h("p", { class: "quiet" }, t("sign_first"))),
  ]);
}

begin({
  role: "officer",
  title: "officer",
  onDraw(answer) {
    lanes(answer);
    if (!answer.officer) return; // A museum's reader has no desk.
    alarms(answer);
    left(answer);
    right(answer);
  },
});
