// Draws the miniature's state and sends what a person does. It knows no rules: words, colours and
// reasons come from the stations; here they are only shown, and put into English when asked.
"use strict";

const TEXTS = {
  ru: {
    subtitle: "школа в миниатюре", close: "Закрыть", wire: "Связь станций с городом",
    entrance: "Вход", till: "Касса", waiting: "в очереди", acknowledged: "принято городом",
    network_on: "Сеть включена", network_off: "Сеть отключена", city: "Город",
    city_hears: "слышит обе станции", city_waits: "не слышит станций", city_some: "слышит одну станцию",
    lane: "Турникет", screen_entrance: "Экран охраны ↗", screen_till: "Экран кассира ↗", walk_on: "Люди проходят", walk_off: "Люди передумывают",
    in: "Вход", out: "Выход", categories: "Разделы меню", total: "Итого", clear: "Очистить",
    feed: "Родителям от города", feed_empty: "Пока тихо. Приложите карту — и родители узнают.",
    tray: "Карты и браслеты", tap_at: "Прикладывать к:", at_in: "входу", at_out: "выходу", at_till: "кассе",
    hint: "Нажмите на карту или перетащите её на табло", order_in: "Город: открыть вход один раз",
    officer_button: "Кнопка охранника", fire: "Пожарная тревога", tamper: "Вскрыть турникет",
    processes: "Процессы", news: "Сообщения", other: "English", other_lang: "en",
    silent: "НЕТ ОТВЕТА", silent_for: "станция молчит {}", ago: "{} назад", now: "сейчас",
    lists: "списки сверены {}", lists_none: "списков ещё нет", s: "{} с", min: "{} мин", h: "{} ч",
    basket_empty: "Выберите блюда, затем приложите карту", without: "Без: {}", paid: "Сумма {}",
    block: "Заблокировать", unblock: "Разблокировать", restarts: "перезапусков: {}",
    kill: "Убить процесс {}: увидеть, как он вернётся", less: "Меньше: {}", more: "Больше: {}",
    lost: "Миниатюра остановлена или не отвечает", unknown_time: "время неизвестно",
    came: "в школе с {}", left: "вне школы с {}", bought: "покупка: {}", ate: "питание: {}",
    reader_in: "Считыватель входа", reader_out: "Считыватель выхода", reader_till: "Считыватель кассы",
    plugged: "подключён", unplugged: "выдернут",
    "broker": "Брокер", "entrance-edge": "Вход", "entrance-sync": "Вход, связь",
    "till-edge": "Касса", "till-sync": "Касса, связь",
  },
  en: {
    subtitle: "one school in miniature", close: "Close", wire: "Link between stations and city",
    entrance: "Entrance", till: "Till", waiting: "in the queue", acknowledged: "accepted by the city",
    network_on: "Network is on", network_off: "Network is off", city: "City",
    city_hears: "hears both stations", city_waits: "hears no station", city_some: "hears one station",
    lane: "Turnstile", screen_entrance: "Officer’s screen ↗", screen_till: "Cashier’s screen ↗", walk_on: "People walk through", walk_off: "People turn back",
    in: "In", out: "Out", categories: "Parts of the menu", total: "Total", clear: "Clear",
    feed: "City to parents", feed_empty: "Quiet so far. Tap a card and the parents will know.",
    tray: "Cards and wristbands", tap_at: "Tap at:", at_in: "way in", at_out: "way out", at_till: "till",
    hint: "Click a card, or drag it onto a screen", order_in: "City: open the way in once",
    officer_button: "Officer's button", fire: "Fire alarm", tamper: "Open the housing",
    processes: "Processes", news: "Messages", other: "Русский", other_lang: "ru",
    silent: "NO ANSWER", silent_for: "station silent for {}", ago: "{} ago", now: "now",
    lists: "lists checked {}", lists_none: "no lists yet", s: "{} s", min: "{} min", h: "{} h",
    basket_empty: "Choose dishes, then tap a card", without: "Without: {}", paid: "Amount {}",
    block: "Block", unblock: "Unblock", restarts: "restarts: {}",
    kill: "Kill the process {} and see it come back", less: "Less: {}", more: "More: {}",
    lost: "The miniature has stopped or does not answer", unknown_time: "unknown time",
    came: "at school since {}", left: "left school at {}", bought: "bought {}", ate: "ate {}",
    reader_in: "Reader, in", reader_out: "Reader, out", reader_till: "Reader, till",
    plugged: "plugged in", unplugged: "unplugged",
    "broker": "Broker", "entrance-edge": "Entrance", "entrance-sync": "Entrance, sync",
    "till-edge": "Till", "till-sync": "Till, sync",
  },
};
const CARDS = {
  "pupil": ["Ученик", "Pupil"], "wristband": ["Браслет", "Wristband"],
  "blocked": ["Утерянная", "Lost"], "stranger": ["Неизвестная", "Unknown"],
  "banned-chocolate": ["Без шоколада", "No chocolate"], "guardian": ["Родитель", "Guardian"],
  "officer": ["Охрана 1111", "Officer 1111"], "cashier": ["Кассир 2222", "Cashier 2222"],
  "supervisor": ["Старший 3333", "Supervisor 3333"], "primary": ["Первоклассник", "First form"],
  "staff": ["Сотрудник", "Staff"], "poor": ["Пустой счёт", "Empty account"],
  "pupil-ev2": ["Карта с ключом", "Card with a key"], "pupil-clone": ["Копия карты", "Copied card"],
  "pupil-factory": ["Заводская карта", "Factory card"], "guest-sun": ["Браслет с кодом", "Coded wristband"],
  "band-aes": ["Браслет с ключом", "Wristband with a key"], "phone": ["Телефон", "Phone"],
  "two-cards": ["Две карты", "Two cards"],
};
const NOTES = {
  "pupil-clone": ["тот же номер, чужой ключ", "same number, another key"],
  "pupil-factory": ["тот же номер, ключ завода", "same number, factory key"],
  "phone": ["каждый раз другой номер", "a new number each time"],
  "two-cards": ["обе сразу", "both at once"],
};
const BANDS = ["wristband", "guest-sun", "band-aes"];
const CATEGORIES = {
  soup: ["Супы", "Soups"], hot: ["Горячее", "Hot"], side: ["Гарниры", "Sides"], salad: ["Салаты", "Salads"],
  pastry: ["Выпечка", "Pastry"], sandwich: ["Бутерброды", "Sandwiches"], chocolate: ["Шоколад", "Chocolate"],
  drink: ["Напитки", "Drinks"], fruit: ["Фрукты", "Fruit"], dairy: ["Молочное", "Dairy"],
};
const WORDS_EN = {
  "ВЫХОДИТЕ": "LEAVE", "НЕ ВХОДИТЕ": "DO NOT ENTER",
  "ПРИЛОЖИТЕ КАРТУ": "TAP YOUR CARD", "ПРОХОДИТЕ": "GO AHEAD", "К ОХРАННИКУ": "SEE THE OFFICER",
  "ЕЩЁ РАЗ": "AGAIN", "СТОП": "STOP", "СПАСИБО": "THANK YOU", "НЕ ПРОШЛИ": "NOT TAKEN",
  "ВНИМАНИЕ": "ATTENTION", "НЕ РАБОТАЕТ": "OUT OF ORDER",
};
const REASONS_EN = {
  stale_read: "Tap the card again", no_list: "The city’s lists have not come yet: see the officer",
  lockdown: "The way in is closed: see the officer", hot_listed: "Lost card: ask for your new one",
  tier_below_enrolled: "The card did not prove that it is genuine", replayed: "The card gave an old code: tap again",
  unknown_credential: "Card not found: see the officer", wrong_site: "A card of another school: see the officer",
  suspended: "Access is suspended: see the officer", not_yet_valid: "The card is not valid yet: see the officer",
  expired: "The card has expired: see the officer", no_access_right: "Not with this card: see the officer",
  outside_schedule: "Not at this hour: see the officer", passback: "This card is inside already: see the officer",
  guardian_choice: "Mark on the screen which child you bring or collect",
  // A card that named nobody; edge/turnstile/officer.py.
  left_field: "The card was taken away too soon: tap it again and hold it", two_cards: "Two cards at once: tap one",
  reader_error: "The reader did not get the card: tap it again",
  deadline: "The card answers too slowly: hold it closer and keep it there",
  unknown_family: "Such a card is not read here: tap the school card",
  random_uid: "A phone or somebody else’s card: tap the school card",
  no_key: "Not a card of this school: see the officer",
  factory_key: "The card was given out with a factory key: see the officer",
  held_back: "This card was asked a moment ago: take it away and tap again",
  key_version: "The card needs renewing: see the officer",
  wrong_key: "The card did not prove that it is genuine: see the officer",
  card_locked: "The card has locked itself after wrong keys: see the officer",
  bad_answer: "The card’s answer made no sense: tap it again",
  bad_mac: "The card’s answer was changed on its way: see the officer",
  unsafe_configuration: "The card was given out unprotected: see the officer",
};
const STATES_EN = {
  fire: "Fire alarm: the lane is free until an officer ends it",
  not_taken: "Tap the card again", down: "The reader does not answer: see the officer",
  reader_down: "The reader does not answer: see the officer",
  forced: "Somebody passed without a grant: look at the turnstile", held: "The turnstile did not close: look at it",
  ask: "The card was not read: hold it a little longer",
};
const SHAPES = { green: "go", red: "stop", amber: "ask", grey: "wait", blue: "down", none: "down" };
const CITY_WORDS = /^(.*?) (came|left|bought|ate) (.*)$/;
const STREAM_LOST_MS = 12000;  // Longer than the server's heartbeat.

let lang = localStorage.getItem("lang") === "en" ? "en" : "ru";
let state = {};
let drawn = {};           // What was last drawn, part by part, so that only changes are drawn.
let category = "soup";
let basket = new Map();   // product -> quantity, as the person at the till sees it at once.
let asking = 0;           // Basket requests on their way.
let heardMs = Date.now();
const turns = { in: 0, out: 0 };
const taken = { in: null, out: null };

const $ = (id) => document.getElementById(id);
const t = (key, value) => (TEXTS[lang][key] ?? key).replace("{}", value ?? "");
const pick = (pair, fallback) => (pair ? pair[lang === "ru" ? 0 : 1] : fallback);
const money = (minor) => `${Math.floor(minor / 100)}.${String(minor % 100).padStart(2, "0")} ₽`;

function make(tag, attributes = {}, ...inside) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "onclick") element.addEventListener("click", value);
    else if (value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...inside);
  return element;
}

function put(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function age(ms) {
  const seconds = Math.max(0, Math.round((Date.now() - ms) / 1000));
  if (seconds < 90) return t("s", seconds);
  return seconds < 5400 ? t("min", Math.round(seconds / 60)) : t("h", Math.round(seconds / 3600));
}

// ---------------------------------------------------------------- asking the miniature

async function ask(path, body) {
  try {
    const response = await fetch(path, {
      method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body),
    });
    const answer = await response.json();
    if (!answer.ok) complain(answer.error);
    return answer;
  } catch (error) {
    complain(t("lost"));
    return { ok: false };
  }
}

let complaint = 0;
function complain(words) {
  $("alert").hidden = false;
  put($("alert").firstElementChild, words);
  clearTimeout(complaint);
  complaint = setTimeout(() => { $("alert").hidden = true; }, 8000);
}

function tapCard(card, at) {
  const button = $(`card-${card}`);
  button?.classList.add("tapped");
  setTimeout(() => button?.classList.remove("tapped"), 250);
  return ask("/tap", { card, at });
}

async function sendBasket() {
  drawBasket();
  asking += 1;
  const answer = await ask("/basket", { lines: [...basket] });
  asking -= 1;
  if (asking === 0) {
    if (!answer.ok) basketFromScreen();
    drawBasket();
  }
}

function change(product, by) {
  const quantity = (basket.get(product) ?? 0) + by;
  if (quantity > 0) basket.set(product, quantity); else basket.delete(product);
  sendBasket();
}

// ---------------------------------------------------------------- drawing

// Draw a part again only when what it is made of has changed.
function part(name, made, draw) {
  const key = lang + JSON.stringify(made ?? null);
  if (drawn[name] === key) return;
  drawn[name] = key;
  draw();
}

function draw() {
  const screens = Object.fromEntries((state.screens_entrance ?? []).map((s) => [s.direction, s]));
  part("in", [screens.in, state.station_entrance?.answers], () => drawLane("in", screens.in));
  part("out", [screens.out, state.station_entrance?.answers], () => drawLane("out", screens.out));
  part("till", [tillScreen(), state.station_till?.answers], drawTill);
  part("menu", [state.menu, category], drawMenu);
  part("wire", [state.wire, state.station_entrance, state.station_till], drawWire);
  part("feed", state.feed, drawFeed);
  part("cards", state.cards, drawCards);
  part("footer", [state.processes, state.plugged], drawFooter);
  part("news", state.news, drawNews);
  part("pages", state.pages, () => Object.entries(state.pages ?? {}).forEach(([station, address]) => {
    $(`screen-${station}`).href = address;
    $(`screen-${station}`).hidden = false;
  }));
  part("walk", state.walk, () => $("walk").setAttribute("aria-checked", String(state.walk !== false)));
  for (const wire of ["fire", "tamper"]) $(wire).setAttribute("aria-pressed", String(wireOn(wire)));
  drawAges();
}

const wireOn = (wire) => state.station_entrance?.wires?.[`north.${wire}`] === true;

function drawTile(tile, screen, answers, words) {
  const colour = !answers ? "none" : screen?.colour ?? "grey";
  tile.dataset.colour = colour;
  tile.dataset.state = !answers ? "silent" : screen?.state ?? "none";
  const cart = tile.id === "till" && (colour === "grey" || colour === "blue");
  tile.querySelector(".shape use").setAttribute("href", `#shape-${cart ? "cart" : SHAPES[colour] ?? "wait"}`);
  const word = answers ? words.word : t("silent");
  put(tile.querySelector(".word"), word);
  fit(tile.querySelector(".word"));
  put(tile.querySelector(".reason"), answers ? words.reason : "");
  put(tile.querySelector(".who"), answers ? words.who : "");
}

// The biggest letters in which the longest word fits the line and the whole fits two lines.
const ruler = document.createElement("canvas").getContext("2d");
function fit(element) {
  const style = getComputedStyle(element);
  ruler.font = `${style.fontWeight} 100px ${style.fontFamily}`;
  const words = element.textContent.split(" ");
  const longest = Math.max(...words.map((word) => ruler.measureText(word).width));
  const whole = ruler.measureText(element.textContent).width;
  const needed = words.length > 1 ? Math.max(longest, whole * 0.5) : longest;
  const largest = parseFloat(style.getPropertyValue("--largest"));
  const size = Math.min(largest, (0.98 * 100 * element.clientWidth) / Math.max(needed, 1));
  element.style.fontSize = `${Math.floor(size)}px`;
}

function drawLane(at, screen) {
  const tile = $(`lane-${at}`);
  const word = screen?.word ?? "";
  const english = REASONS_EN[screen?.reason] ?? STATES_EN[screen?.state] ?? screen?.text;
  drawTile(tile, screen, Boolean(state.station_entrance?.answers), {
    word: lang === "ru" ? word : WORDS_EN[word] ?? word,
    reason: screen?.text ? (lang === "ru" ? screen.text : english) : "",
    who: [screen?.name, screen?.group].filter(Boolean).join(" · "),
  });
  if (screen?.state === "taken" && screen.passage !== taken[at]) {
    taken[at] = screen.passage;
    turns[at] += 120;
    tile.style.setProperty("--turn", `${turns[at]}deg`);
  }
}

const tillScreen = () => (state.screens_till ?? [])[0];

function drawTill() {
  const screen = tillScreen();
  const without = screen?.without?.length ? t("without", screen.without.join(", ")) : "";
  const text = (lang === "ru" ? screen?.text : screen?.text_en ?? screen?.text) ?? "";
  drawTile($("till"), screen, Boolean(state.station_till?.answers), {
    word: (lang === "ru" ? screen?.word : screen?.word_en ?? screen?.word) ?? "",
    reason: [text, without].filter(Boolean).join(". "),
    who: screen?.answer_total ? t("paid", screen.answer_total) : "",
  });
  if (asking === 0) basketFromScreen();
  drawBasket();
}

function basketFromScreen() {
  basket = new Map((tillScreen()?.basket ?? []).map((line) => [line.product, line.quantity]));
}

function drawBasket() {
  const products = new Map((state.menu ?? []).map((product) => [product.product, product]));
  const lines = [...basket].map(([id, quantity]) => [products.get(id), quantity]).filter(([p]) => p);
  const total = lines.reduce((sum, [p, quantity]) => sum + p.price_minor * quantity, 0);
  $("basket").replaceChildren(...(lines.length ? lines.map(([p, quantity]) =>
    make("li", { "data-product": p.product }, make("span", {}, p.name), make("span", { class: "count" },
      make("button", { type: "button", "aria-label": t("less", p.name), onclick: () => change(p.product, -1) }, "−"),
      String(quantity),
      make("button", { type: "button", "aria-label": t("more", p.name), onclick: () => change(p.product, 1) }, "+"),
      make("b", {}, money(p.price_minor * quantity)))))
    : [make("li", { class: "nothing" }, t("basket_empty"))]));
  put($("basket-total"), money(total));
  $("clear").disabled = !lines.length;
}

function drawMenu() {
  const menu = state.menu ?? [];
  const order = Object.keys(CATEGORIES);
  const place = (name) => (order.includes(name) ? order.indexOf(name) : order.length);
  const names = [...new Set(menu.map((product) => product.category))].sort((a, b) => place(a) - place(b));
  if (names.length && !names.includes(category)) category = names[0];
  $("categories").replaceChildren(...names.map((name) => make("button", {
    type: "button", role: "tab", "aria-selected": String(name === category), "data-category": name,
    onclick: () => { category = name; draw(); $("categories").querySelector('[aria-selected="true"]').focus(); },
  }, pick(CATEGORIES[name], name))));
  $("menu").replaceChildren(...menu.filter((product) => product.category === category).map((product) =>
    make("button", { type: "button", "data-product": product.product, onclick: () => change(product.product, 1) },
      product.name, make("span", {}, money(product.price_minor)))));
}

function drawWire() {
  const on = state.wire === "on";
  $("wire").dataset.wire = state.wire ?? "on";
  $("network").setAttribute("aria-checked", String(on));
  let heard = 0;
  for (const name of ["entrance", "till"]) {
    const station = state[`station_${name}`] ?? {};
    put($(`waiting-${name}`), String(station.waiting ?? 0));
    put($(`acknowledged-${name}`), String(station.acknowledged ?? 0));
    $(`count-${name}`).dataset.waiting = station.waiting ? "yes" : "no";
    heard += station.connected ? 1 : 0;
  }
  put($("city-words"), t(["city_waits", "city_some", "city_hears"][heard]));
}

function drawFeed() {
  const feed = state.feed ?? [];
  const had = new Set([...$("feed").children].map((item) => item.dataset.id));
  $("feed-empty").hidden = feed.length > 0;
  $("feed").replaceChildren(...feed.map((message) => {
    const found = CITY_WORDS.exec(message.text);
    const said = found ? t(found[2], found[3].replace("at an unknown time", t("unknown_time"))) : "";
    const item = make("li", { "data-kind": message.kind, "data-id": message.id },
      make("time", {}, String(message.at).slice(11, 16)),
      found ? make("span", {}, make("b", {}, found[1]), said) : make("span", {}, message.text));
    if (had.size && !had.has(String(message.id))) item.classList.add("new");
    return item;
  }));
}

function drawCards() {
  const focused = document.activeElement?.id;
  $("cards").replaceChildren(...(state.cards ?? []).map((card) => {
    const button = make("button", {
      type: "button", class: card.blocked ? "card hot" : "card", id: `card-${card.label}`, "data-card": card.label,
      draggable: "true", "data-shape": BANDS.includes(card.label) ? "band" : "card",
      onclick: () => tapCard(card.label, document.querySelector('input[name="at"]:checked').value),
    }, make("b", {}, pick(CARDS[card.label], card.label)), make("span", {}, card.name ?? pick(NOTES[card.label], card.note) ?? "—"));
    button.addEventListener("dragstart", (event) => {
      event.dataTransfer.setData("text/plain", card.label);
      event.dataTransfer.effectAllowed = "copy";
    });
    const does = card.blocked ? "unblock" : "block";
    const city = card.cardholder
      ? [make("button", { type: "button", class: "does", id: `block-${card.label}`,
        onclick: () => ask(`/${does}`, { card: card.label }) }, t(does))] : [];
    return make("li", {}, button, ...city);
  }));
  if (focused) $(focused)?.focus();
}

function drawFooter() {
  $("processes").replaceChildren(...(state.processes ?? []).map((process) =>
    make("li", { id: `process-${process.name}`, "data-life": process.life, title: process.end ?? "" }, make("i"),
      process.name === "city" ? t("city") : t(process.name), process.restarts ? ` · ${t("restarts", process.restarts)}` : "",
      make("button", { type: "button", title: t("kill", process.name), "aria-label": t("kill", process.name),
        onclick: () => ask("/kill", { process: process.name }) }, "×"))));
  $("readers").replaceChildren(...Object.entries(state.plugged ?? {}).map(([at, on]) =>
    make("li", {}, make("button", { type: "button", role: "switch", id: `plug-${at}`, "aria-checked": String(on),
      onclick: () => ask("/plug", { at, on: !on }) },
      `${t(`reader_${at}`)} ${t(on ? "plugged" : "unplugged")}`))));
}

function drawNews() {
  const news = state.news ?? [];
  $("news").dataset.some = news.length ? "yes" : "no";
  put($("news-count"), String(news.length));
  $("news").querySelector("ol").replaceChildren(...news.map((item) =>
    make("li", {}, `${new Date(item.at_ms).toLocaleTimeString("ru")} ${item.who}: ${item.words}`)));
}

// How old everything is. Runs every second too, so nothing here may depend on a change.
function drawAges() {
  for (const [id, station, screen] of [
    ["lane-in", state.station_entrance, (state.screens_entrance ?? []).find((s) => s.direction === "in")],
    ["lane-out", state.station_entrance, (state.screens_entrance ?? []).find((s) => s.direction === "out")],
    ["till", state.station_till, tillScreen()],
  ]) {
    let words = "";
    if (station && !station.answers) words = t("silent_for", age(station.since_ms));
    else if (station) {
      const lists = station.fresh_ms ? t("lists", t("ago", age(station.fresh_ms))) : t("lists_none");
      const active = screen && screen.colour !== "grey" ? `${t("ago", age(screen.at_ms))} · ` : "";
      words = active + lists;
    }
    put($(id).querySelector(".sure"), words);
  }
  const lost = Date.now() - heardMs > STREAM_LOST_MS;
  document.body.dataset.lost = lost ? "yes" : "no";
  if (lost) complain(t("lost"));
  else if ($("alert").textContent.includes(t("lost"))) $("alert").hidden = true;
}

function translate() {
  document.documentElement.lang = lang;
  for (const element of document.querySelectorAll("[data-i18n]")) put(element, t(element.dataset.i18n));
  for (const element of document.querySelectorAll("[data-i18n-label]")) {
    element.setAttribute("aria-label", t(element.dataset.i18nLabel));
  }
  put($("lang"), t("other"));
  $("lang").lang = t("other_lang");
  draw();
}

// ---------------------------------------------------------------- people's hands

$("lang").addEventListener("click", () => {
  lang = lang === "ru" ? "en" : "ru";
  localStorage.setItem("lang", lang);
  translate();
});
$("network").addEventListener("click", () => ask("/network", { on: state.wire !== "on" }));
$("walk").addEventListener("click", () => ask("/walk", { on: state.walk === false }));
$("clear").addEventListener("click", () => { basket.clear(); sendBasket(); });
$("order-in").addEventListener("click", () => ask("/order", { at: "in" }));
for (const wire of ["fire", "tamper"]) {
  $(wire).addEventListener("click", () => ask("/wire", { line: `north.${wire}`, on: !wireOn(wire) }));
}
$("officer-button").addEventListener("click", async () => {
  await ask("/wire", { line: "north-in.button", on: true });
  await ask("/wire", { line: "north-in.button", on: false });
});
$("alert").lastElementChild.addEventListener("click", () => { $("alert").hidden = true; });
for (const place of document.querySelectorAll(".drop")) {
  place.addEventListener("dragover", (event) => { event.preventDefault(); place.classList.add("over"); });
  place.addEventListener("dragleave", () => place.classList.remove("over"));
  place.addEventListener("drop", (event) => {
    event.preventDefault();
    place.classList.remove("over");
    tapCard(event.dataTransfer.getData("text/plain"), place.dataset.at);
  });
}

const events = new EventSource("/events");
events.onmessage = (event) => {
  heardMs = Date.now();
  state = JSON.parse(event.data);
  draw();
};
events.addEventListener("here", () => { heardMs = Date.now(); });
events.onerror = () => { heardMs = 0; drawAges(); };  // It is gone; the browser tries again.
setInterval(drawAges, 1000);
addEventListener("resize", () => document.querySelectorAll(".tile .word").forEach(fit));
translate();
