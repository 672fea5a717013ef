// What all pages of a station share: the stream of what stands on the screen, requests, words in
// two languages, and the sign-in dialogue. A page keeps nothing: what it shows came a moment ago.

const SVG = "http://www.w3.org/2000/svg";
const QUIET_MS = 12000; // Two beats of the stream (edge/web_app.py) and some.
const SHAPES = { green: "go", red: "stop", amber: "ask", grey: "wait", blue: "down" };

// Every page's own: its shapes, its head, its dialogues. They are here before a page's script begins.
const FACE = { class: "face" }, RING = { cx: 50, cy: 50, r: 42, class: "ring" }, marked = (d) => ["path", { d, class: "mark" }], thin = (d) => ["path", { d, class: "mark thin" }];
const SPRITE = {
  go: [["circle", { cx: 50, cy: 50, r: 46, ...FACE }], marked("M28 52l15 16 30-36")],
  stop: [["path", { d: "M31 4h38l27 27v38L69 96H31L4 69V31z", ...FACE }], marked("M26 50h48")],
  ask: [["path", { d: "M50 6l46 84H4z", class: "face round" }], marked("M50 36v26M50 75v1")],
  wait: [["circle", RING], thin("M36 40c8 5 8 15 0 20M48 33c14 9 14 25 0 34M60 26c20 13 20 35 0 48")],
  down: [["rect", { x: 8, y: 8, width: 84, height: 84, rx: 10, ...FACE }], marked("M32 32l36 36M68 32L32 68")],
  cart: [["circle", RING], thin("M28 58h44M34 58c0-26 32-26 32 0M50 38v-4M24 68h52")],
  person: [["circle", { cx: 12, cy: 8, r: 4.5, fill: "currentColor" }], ["path", { d: "M3 23c0-6 4-9 9-9s9 3 9 9z", fill: "currentColor" }]],
};
function drawn(name, attributes, ...children) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}
document.body.prepend(
  drawn("svg", { class: "sprite", "aria-hidden": "true" }, ...Object.entries(SPRITE).map(([name, parts]) =>
    drawn("symbol", { id: `shape-${name}`, viewBox: name === "person" ? "0 0 24 24" : "0 0 100 100" }, ...parts.map(([kind, attributes]) => drawn(kind, attributes))))),
  h("header", { class: "top" }, h("h1", { id: "title" }), h("span", { id: "sure", class: "sure" }), h("div", { id: "staff", class: "grow" }), h("button", { id: "lang", type: "button" })),
  h("p", { id: "clock", class: "bar amber", hidden: true }));
document.body.append(
  h("dialog", { id: "sign", "aria-live": "polite" }), h("dialog", { id: "box" }),
  h("div", { id: "lost", role: "alert", hidden: true }, drawn("svg", { viewBox: "0 0 100 100", "aria-hidden": "true" }, drawn("use", { href: "#shape-down" })), h("b"), h("p")));

const TEXTS = {
  ru: {
    other: "English", role_officer: "охранник", role_cashier: "кассир", officer: "Охрана", cashier: "Касса", lost: "НЕТ СВЯЗИ", sure: "обновлено в {}",
    lost_text: "Страница не слышит станцию. Проход и оплата работают сами; экран вернётся, когда станция ответит.",
    sign_in: "Войти", sign_out: "Выйти", nobody: "Никто не вошёл", cancel: "Отмена", clear: "Стереть",
    show_card: "Приложите свою карту к считывателю", enter_pin: "Введите ПИН", checking: "Проверяем…",
    supervisor: "Подтверждение старшего", seconds: "{} с", clock: "Часам станции пока нельзя верить",
    digit: "Цифра {}", failed: "Не получилось", yes: "Да", no: "Нет", close: "Закрыть",
    unknown_link: "Этот экран здесь не знают: откройте страницу по ссылке станции",
    too_many: "Слишком быстро: подождите секунду",
  },
  en: {
    other: "Русский", role_officer: "officer", role_cashier: "cashier", officer: "Security", cashier: "Till", lost: "NO CONNECTION", sure: "as of {}",
    lost_text: "This page cannot hear the station. Entrance and payment go on by themselves; the screen comes back when the station answers.",
    sign_in: "Sign in", sign_out: "Sign out", nobody: "Nobody is signed in", cancel: "Cancel", clear: "Clear",
    show_card: "Show your card at the reader", enter_pin: "Enter your PIN", checking: "Checking…",
    supervisor: "A supervisor confirms", seconds: "{} s", clock: "The station's clock cannot be trusted yet",
    digit: "Digit {}", failed: "That did not work", yes: "Yes", no: "No", close: "Close",
    unknown_link: "This screen is not known here: open it by the station's link",
    too_many: "Too fast: wait a second",
  },
};
export let lang = new URLSearchParams(location.search).get("lang") === "en" ? "en" : "ru";
export const state = { answer: null, at: null };
let redraw = () => {};

export function words(more) {
  for (const one of ["ru", "en"]) Object.assign(TEXTS[one], more[one]);
}
export function t(key, ...values) {
  let text = TEXTS[lang][key] ?? key;
  for (const value of values) text = text.replace("{}", value);
  return text;
}
export const either = (ru, en) => (lang === "en" && en ? en : ru);
export const roubles = (minor) =>
  `${minor < 0 ? "−" : ""}${Math.floor(Math.abs(minor) / 100)}.${String(Math.abs(minor) % 100).padStart(2, "0")} ₽`;

// ---- drawing: elements are made anew only where what they show has changed

export function h(name, props = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(props)) {
    if (value === undefined || value === null || value === false) continue;
    if (key === "on") for (const [event, act] of Object.entries(value)) made.addEventListener(event, act);
    else if (key === "class") made.className = value;
    else if (key === "disabled" || key === "hidden" || key === "value") made[key] = value;
    else made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return made;
}
export function button(label, act, props = {}) {
  return h("button", { type: "button", ...props, on: { click: act } }, label);
}
export function shape(colour, name) {
  return drawn("svg", { class: "shape", viewBox: "0 0 100 100", "aria-hidden": "true" }, drawn("use", { href: `#shape-${name ?? SHAPES[colour] ?? "wait"}` }));
}
// The guardian's page has a way of its own, and hears and asks there only what its dialogue needs.
const WAY = location.pathname.startsWith("/guardian") ? "/guardian" : "";
export function face(hash, label) {
  if (hash) return h("img", { class: "face-of", src: `${WAY}/photo/${hash}`, alt: label });
  const svg = shape("", "person");
  svg.setAttribute("class", "face-of");
  svg.setAttribute("viewBox", "0 0 24 24");
  return svg;
}
// Rebuilds `place` when `seen` differs from the last time; the focus stays where it was.
export function draw(place, seen, build) {
  const mark = JSON.stringify([lang, seen]);
  if (place.mark === mark) return;
  place.mark = mark;
  const focus = document.activeElement;
  const key = focus && place.contains(focus) ? focus.dataset.key ?? focus.id : null;
  place.replaceChildren(...[build()].flat().filter(Boolean));
  if (key) place.querySelector(`[data-key="${CSS.escape(key)}"], #${CSS.escape(key)}`)?.focus();
}
// A button that was drawn anew between press and release gets no click from the browser. Its successor is clicked
// instead, where its key names the very thing it acts on (`more-soup-1`): then it cannot mean anything else by now.
let pressed = null;
const named = (one) => (one?.dataset.key?.includes("-") ? one.dataset.key : null);
function press(one) {
  pressed = one?.closest?.("button") ?? null;
}
function release(one) {
  const was = pressed, now = one?.closest?.("button") ?? null;
  pressed = null;
  if (was && now && !was.isConnected && named(was) && named(was) === named(now)) now.click();
}
addEventListener("pointerdown", (event) => press(event.target), true);
addEventListener("pointerup", (event) => release(document.elementFromPoint(event.clientX, event.clientY)), true);
addEventListener("keydown", (event) => { if (event.key === " " && !event.repeat) press(document.activeElement); }, true);
addEventListener("keyup", (event) => { if (event.key === " ") release(document.activeElement); }, true);

export function toast(text) {
  const host = document.querySelector("dialog[open]") ?? document.body;
  document.getElementById("toast")?.remove();
  const made = h("p", { id: "toast", role: "alert" }, text);
  host.append(made);
  setTimeout(() => made.remove(), 5000);
}

// ---- the station

export async function ask(name, body = {}) {
  try {
    const sent = await fetch(`${WAY}/do/${name}`, {
      method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body),
    });
    const answer = await sent.json();
    if (!answer.ok) toast(sent.status === 429 ? t("too_many") : whyNot(answer));
    return answer;
  } catch {
    toast(t("lost"));
    return { ok: false };
  }
}

// Why something was not done, in the page's language: by its word, else by the station's sentence.
const SAYINGS = [];
export function sayings(more) {
  SAYINGS.push(...more);
}
function whyNot(answer) {
  const said = TEXTS[lang][`why_${answer.why ?? answer.error}`];
  if (said) return said;
  if (lang === "en") return answer.error || t("failed");
  const found = SAYINGS.find(([pattern]) => pattern.test(answer.error ?? ""));
  return found ? found[1] : answer.text || t("failed");
}
sayings([
  [/^no PIN is asked for/, "Сначала приложите карту"], [/^a PIN has/, "ПИН: от 4 до 8 цифр"],
  [/^another PIN is being checked/, "Идёт проверка: подождите"], [/^the station does not answer/, "Станция не отвечает: попробуйте ещё раз"],
  [/^nobody signs in as/, "Так здесь не входят"], [/could not be recorded|cannot be written/, "Не записывается: ничего не сделано"],
]);

let last = 0;
function listen() {
  const events = new EventSource(`${WAY}/events`);
  const heard = () => { last = Date.now(); document.getElementById("lost").hidden = true; };
  events.addEventListener("here", heard);
  events.onmessage = (event) => {
    const answer = JSON.parse(event.data);
    if (!answer.ok) return;
    heard();
    state.answer = answer;
    state.at = new Date();
    paint();
  };
  // A station that sent us away for good is asked again.
  events.onerror = () => { if (events.readyState === EventSource.CLOSED) setTimeout(listen, 3000); };
}
function paint() {
  if (!state.answer) return;
  redraw(state.answer);
  drawStaff(state.answer.staff);
  const sure = document.getElementById("sure");
  if (sure) sure.textContent = t("sure", state.at.toLocaleTimeString("ru-RU"));
  const clock = document.getElementById("clock");
  if (clock) { clock.hidden = state.answer.clock_trusted; clock.textContent = t("clock"); }
}

// ---- who is signed in

let typed = "";
let asked = "";
function drawStaff(staff) {
  if (!page.role) return;
  const role = page.role;
  const person = staff[role];
  draw(document.getElementById("staff"), [person, role], () => (person
    ? [h("span", { class: "who" }, h("b", {}, person.name || person.cardholder), h("span", { class: "quiet-light" }, t(`role_${role}`))),
       button(t("sign_out"), () => ask("sign_out"), { "data-key": "out" })]
    : [h("span", {}, t("nobody")), button(t("sign_in"), () => ask("sign_in_start", { role }), { class: "main", id: "sign-in" })]));
  const dialogue = staff.dialogue;
  const box = document.getElementById("sign");
  if (!dialogue) {
    if (box.open) box.close();
    typed = "";
    if (staff.notice.key && asked) toast(either(staff.notice.ru, staff.notice.en));
    asked = "";
    return;
  }
  if (asked !== dialogue.step) typed = "";
  asked = dialogue.step;
  if (!box.open) box.showModal();
  drawPin(staff, dialogue);
  const left = box.querySelector(".left");
  if (left) left.textContent = dialogue.step === "checking" ? "" : t("seconds", dialogue.seconds);
}
function drawPin(staff, dialogue) {
  draw(document.getElementById("sign"), [dialogue.step, dialogue.role, dialogue.person, staff.notice, typed.length], () => {
    const notice = h("p", { class: "notice", role: "alert" }, either(staff.notice.ru, staff.notice.en));
    const cancel = button(t("cancel"), () => ask("sign_in_cancel"), { "data-key": "cancel" });
    const title = dialogue.role === "supervisor" ? t("supervisor") : t("sign_in");
    if (dialogue.step === "card") {
      return h("div", { class: "panel sign" }, h("h2", {}, title), shape("", "wait"),
        h("p", {}, t("show_card")), notice, h("p", { class: "left quiet num" }), cancel);
    }
    const digits = ["1", "2", "3", "4", "5", "6", "7", "8", "9", "clear", "0", "ok"].map((digit) => {
      if (digit === "clear") return button("⌫", () => { typed = typed.slice(0, -1); paint(); }, { "aria-label": t("clear"), "data-key": "pad-clear" });
      if (digit === "ok") return button("OK", sendPin, { class: "main", disabled: typed.length < 4, "data-key": "pad-ok" });
      return button(digit, () => type(digit), { "aria-label": t("digit", digit), "data-key": `pad-${digit}` });
    });
    const dots = Array.from({ length: Math.max(4, typed.length) }, (_, at) => h("i", { class: at < typed.length ? "full" : "" }));
    return h("div", { class: "panel sign" }, h("h2", {}, dialogue.person?.name || title),
      h("p", {}, t(dialogue.step === "checking" ? "checking" : "enter_pin")),
      h("div", { class: "dots", "aria-label": String(typed.length) }, dots),
      dialogue.step === "pin" && h("div", { class: "pad" }, digits), notice,
      h("p", { class: "left quiet num" }), cancel);
  });
}
function type(digit) {
  if (typed.length < 8) { typed += digit; paint(); }
}
function sendPin() {
  const pin = typed;
  typed = "";
  if (pin.length >= 4) ask("sign_in_pin", { pin });
}

// ---- a page's life

const page = { role: "" };
export function begin({ role = "", title, onDraw }) {
  page.role = role;
  redraw = onDraw;
  const box = document.getElementById("sign");
  box?.addEventListener("cancel", (event) => { event.preventDefault(); ask("sign_in_cancel"); });
  document.addEventListener("keydown", (event) => {
    if (state.answer?.staff?.dialogue?.step !== "pin" || event.ctrlKey || event.altKey) return;
    if (/^[0-9]$/.test(event.key)) { event.preventDefault(); type(event.key); }
    else if (event.key === "Backspace") { event.preventDefault(); typed = typed.slice(0, -1); paint(); }
    else if (event.key === "Enter" && typed.length >= 4) { event.preventDefault(); sendPin(); }
  });
  const speak = () => {
    document.documentElement.lang = lang;
    document.getElementById("lang").textContent = t("other");
    document.querySelector("#lost b").textContent = t("lost");
    document.querySelector("#lost p").textContent = t("lost_text");
    const name = typeof title === "function" ? title() : t(title);
    document.title = name;
    document.getElementById("title").textContent = name;
    paint();
  };
  document.getElementById("lang").addEventListener("click", () => {
    lang = lang === "ru" ? "en" : "ru";
    history.replaceState(null, "", lang === "en" ? "?lang=en" : location.pathname);
    speak();
  });
  speak();
  last = Date.now();
  setInterval(() => { if (Date.now() - last > QUIET_MS) document.getElementById("lost").hidden = false; }, 1000);
  enter().then(listen);
}
// A screen on the network is opened by a link that ends in its token, once.
async function enter() {
  const token = /[#&]token=([\w-]+)/.exec(location.hash)?.[1];
  if (!token) return;
  history.replaceState(null, "", location.pathname + location.search);
  const sent = await fetch("/session", {
    method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ token }),
  });
  if (!sent.ok) toast(t("unknown_link"));
}
