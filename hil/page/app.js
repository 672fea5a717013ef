// Draws the miniature's state and sends what a person does. It knows no rules: words, colours and
// reasons come from the stations; here they are only shown, and put into English when asked.
"use strict";

const TEXTS = {
  ru: {
    subtitle: "школа в миниатюре", close: "Закрыть", wire: "Связь станций с городом",
    entrance: "Вход", till: "Касса", waiting: "в очереди", acknowledged: "принято городом",
    network_on: "Сеть включена", network_off: "Сеть отключена", city: "Город",
    city_hears: "слышит все станции", city_waits: "не слышит станций", city_some: "слышит станций: {}",
    more_stations: "Ещё станции школы", school_on: "Школьная сеть включена", school_off: "Школьная сеть отключена: станции не слышат друг друга",
    till_2: "Вторая касса", garden_in: "Детский сад, вход", garden_out: "Детский сад, выход", museum: "Музей",
    at_till_2: "второй кассе", at_garden_in: "входу в сад", at_garden_out: "выходу из сада", at_museum: "музею",
    "screen_till-2": "Экран второй кассы ↗", screen_preschool: "Экран охраны сада ↗", screen_guardian: "Экран родителя ↗", screen_museum: "Экран музея ↗",
    queue: "в очереди {}",
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
    kill: "Оборвать процесс «{}» и увидеть, как он вернётся", less: "Меньше: {}", more: "Больше: {}",
    lost: "Миниатюра остановлена или не отвечает", unknown_time: "время неизвестно",
    came: "в школе с {}", left: "вне школы с {}", bought: "покупка: {}", ate: "питание: {}",
    reader_in: "Считыватель входа", reader_out: "Считыватель выхода", reader_till: "Считыватель кассы",
    "reader_till-2": "Считыватель второй кассы", "reader_garden-in": "Считыватель входа в сад",
    "reader_garden-out": "Считыватель выхода из сада", reader_museum: "Считыватель музея",
    plugged: "подключён", unplugged: "выдернут",
    "broker": "Брокер", "entrance-edge": "Вход", "entrance-sync": "Вход, связь",
    "till-edge": "Касса", "till-sync": "Касса, связь",
    "broker-school": "Школьный брокер", "till-2-edge": "Вторая касса", "till-2-sync": "Вторая касса, связь",
    "preschool-edge": "Сад", "preschool-sync": "Сад, связь", "museum-edge": "Музей", "museum-sync": "Музей, связь",
  },
  en: {
    subtitle: "one school in miniature", close: "Close", wire: "Link between stations and city",
    entrance: "Entrance", till: "Till", waiting: "in the queue", acknowledged: "accepted by the city",
    network_on: "Network is on", network_off: "Network is off", city: "City",
    city_hears: "hears every station", city_waits: "hears no station", city_some: "stations heard: {}",
    more_stations: "More stations of the school", school_on: "School network is on", school_off: "School network is off: stations do not hear each other",
    till_2: "Second till", garden_in: "Pre-school, in", garden_out: "Pre-school, out", museum: "Museum",
    at_till_2: "second till", at_garden_in: "pre-school, in", at_garden_out: "pre-school, out", at_museum: "museum",
    "screen_till-2": "Second till’s screen ↗", screen_preschool: "Pre-school officer’s screen ↗", screen_guardian: "Guardian’s screen ↗", screen_museum: "Museum’s screen ↗",
    queue: "{} in the queue",
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
    kill: "End the process “{}” abruptly and see it come back", less: "Less: {}", more: "More: {}",
    lost: "The miniature has stopped or does not answer", unknown_time: "unknown time",
    came: "at school since {}", left: "left school at {}", bought: "bought {}", ate: "ate {}",
    reader_in: "Reader, in", reader_out: "Reader, out", reader_till: "Reader, till",
    "reader_till-2": "Reader, second till", "reader_garden-in": "Reader, pre-school in",
    "reader_garden-out": "Reader, pre-school out", reader_museum: "Reader, museum",
    plugged: "plugged in", unplugged: "unplugged",
    "broker": "Broker", "entrance-edge": "Entrance", "entrance-sync": "Entrance, sync",
    "till-edge": "Till", "till-sync": "Till, sync",
    "broker-school": "School broker", "till-2-edge": "Second till", "till-2-sync": "Second till, sync",
    "preschool-edge": "Pre-school", "preschool-sync": "Pre-school, sync", "museum-edge": "Museum", "museum-sync": "Museum, sync",
  },
};
const CARDS = {
  "pupil": ["Ученик", "Pupil"], "wristband": ["Браслет", "Wristband"],
  "blocked": ["Утерянная", "Lost"], "stranger": ["Неизвестная", "Unknown"],
  "banned-chocolate": ["Без шоколада", "No chocolate"], "guardian": ["Родитель", "Guardian"],
  "officer": ["Охрана", "Officer"], "cashier": ["Кассир", "Cashier"], "supervisor": ["Старший", "Supervisor"], "primary": ["Первоклашка", "First form"],
  "guardian-barred": ["Родитель с запретом", "Barred guardian"],
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
  "officer": ["PIN стенда 1111", "the bench’s PIN 1111"], "cashier": ["PIN стенда 2222", "the bench’s PIN 2222"],
  "supervisor": ["PIN стенда 3333", "the bench’s PIN 3333"],
};
const BANDS = ["wristband", "guest-sun", "band-aes"];
const CATEGORIES = {
  soup: ["Супы", "Soups"], hot: ["Горячее", "Hot"], side: ["Гарниры", "Sides"], salad: ["Салаты", "Salads"],
  pastry: ["Выпечка", "Pastry"], sandwich: ["Бутерброды", "Sandwiches"], chocolate: ["Шоколад", "Chocolate"],
  drink: ["Напитки", "Drinks"], fruit: ["Фрукты", "Fruit"], dairy: ["Молочное", "Dairy"],
};
// Tiles of `make run STATIONS=all`: tile, station, its screen.
const MORE = [
  ["tile-till-2", "till-2", (screen) => screen.till],
  ["tile-garden-in", "preschool", (screen) => screen.direction === "in"],
  ["tile-garden-out", "preschool", (screen) => screen.direction === "out"],
  ["tile-museum", "museum", () => true],
];
const SHAPES = { green: "go", red: "stop", amber: "ask", grey: "wait", blue: "down", none: "down" };
const CITY_WORDS = /^(.*?) (came|left|bought|ate) (.*)$/;
const SETTLE_MS = 700;  // A screen sent before the till had the basket may come after its answer.
const STREAM_LOST_MS = 12000;  // Longer than the server's heartbeat.

let lang = localStorage.getItem("lang") === "en" ? "en" : "ru";
let state = {};
let drawn = {};           // What was last drawn, part by part, so that only changes are drawn.
let category = "soup";
let basket = new Map();   // product -> quantity, as the person at the till sees it at once.
let asking = 0;           // Basket requests on their way.
let sent = Promise.resolve();
let trustedMs = 0;        // Until then the basket here is newer than a screen that says otherwise.
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

// One child for each item, in their order. A child stays for as long as its item is there, or a button would be
// gone from under a finger or lose the keyboard's focus between press and release.
function keep(parent, items, name, made, filled) {
  const had = new Map([...parent.children].map((child) => [child.drawn, child]));
  const wanted = items.map((item) => {
    const key = `${lang} ${name(item)}`;
    const child = had.get(key) ?? made(item);
    child.drawn = key;
    child.dataset.product = name(item);
    filled(item, child);
    return child;
  });
  for (const child of [...parent.children]) if (!wanted.includes(child)) child.remove();
  wanted.forEach((child, at) => { if (parent.children[at] !== child) parent.insertBefore(child, parent.children[at] ?? null); });
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
  return sent.then(() => ask("/tap", { card, at }));  // What was put into the basket counts.
}

async function sendBasket() {
  drawBasket();
  asking += 1;
  const lines = [...basket];
  sent = sent.then(() => ask("/basket", { lines }));  // In the order in which they were made.
  const answer = await sent;
  asking -= 1;
  if (asking > 0) return;
  trustedMs = answer.ok ? Date.now() + SETTLE_MS : 0;
  setTimeout(drawTill, answer.ok ? SETTLE_MS : 0);
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
  part("wire", [state.wire, ...stations()], drawWire);
  part("feed", state.feed, drawFeed);
  part("cards", state.cards, drawCards);
  part("footer", [state.processes, state.plugged], drawFooter);
  part("news", state.news, drawNews);
  part("pages", state.pages, drawPages);
  part("more", MORE.map(([, station, is]) => [state[`station_${station}`]?.answers, moreScreen(station, is)]), drawMore);
  part("school", state.school_wire, () => $("school-network").setAttribute("aria-checked", String(state.school_wire === "on")));
  part("walk", state.walk, () => $("walk").setAttribute("aria-checked", String(state.walk !== false)));
  for (const wire of ["fire", "tamper"]) $(wire).setAttribute("aria-pressed", String(wireOn(wire)));
  drawAges();
}

const wireOn = (wire) => state.station_entrance?.wires?.[`north.${wire}`] === true;

function drawTile(tile, screen, answers, words) {
  const colour = !answers ? "none" : screen?.colour ?? "grey";
  tile.dataset.colour = colour;
  tile.dataset.state = !answers ? "silent" : screen?.state ?? "none";
  const cart = screen?.till && (colour === "grey" || colour === "blue");
  tile.querySelector(".shape use").setAttribute("href", `#shape-${cart ? "cart" : SHAPES[colour] ?? "wait"}`);
  const word = answers ? words.word : t("silent");
  put(tile.querySelector(".word"), word);
  fit(tile.querySelector(".word"));
  put(tile.querySelector(".reason"), answers ? words.reason : "");
  put(tile.querySelector(".who"), answers ? words.who : "");
}

const moreScreen = (station, is) => (state[`screens_${station}`] ?? []).find(is);

function drawMore() {
  const there = MORE.some(([, station]) => state[`station_${station}`]);
  $("more").hidden = !there;
  for (const label of document.querySelectorAll("[data-more]")) label.hidden = !there;
  if (!there) return;
  for (const [id, station, is] of MORE) {
    const screen = moreScreen(station, is);
    const answers = Boolean(state[`station_${station}`]?.answers);
    if (screen?.till) drawTile($(id), screen, answers, tillWords(screen));
    else drawTile($(id), screen, answers, laneWords(screen));
  }
}

// Each station serves pages of its own; these are the ways to them.
function drawPages() {
  const pages = state.pages ?? {};
  for (const station of ["entrance", "till"]) {
    $(`screen-${station}`).href = pages[station] ?? "";
    $(`screen-${station}`).hidden = !pages[station];
  }
  const links = [["till-2", pages["till-2"]], ["guardian", pages.preschool && `${pages.preschool}guardian`],
    ["preschool", pages.preschool], ["museum", pages.museum]];
  $("more").querySelector(".links").replaceChildren(...links.filter(([, address]) => address).map(([name, address]) =>
    make("a", { id: `screen-${name}`, class: "small", target: "_blank", rel: "noopener", href: address }, t(`screen_${name}`))));
}

// The biggest letters in which the longest word fits the line and the whole fits two lines.
const ruler = document.createElement("canvas").getContext("2d");
function fit(element) {
  const style = getComputedStyle(element);
  ruler.font = `${style.fontWeight} 100px ${style.fontFamily}`;
  const words = element.textContent.split(" ");
  const width = (some) => ruler.measureText(some.join(" ")).width;
  const needed = words.length < 2 ? width(words)
    : Math.min(...words.slice(1).map((_, at) => Math.max(width(words.slice(0, at + 1)), width(words.slice(at + 1)))));
  const largest = parseFloat(style.getPropertyValue("--largest"));
  const size = Math.min(largest, (0.98 * 100 * element.clientWidth) / Math.max(needed, 1));
  element.style.fontSize = `${Math.floor(size)}px`;
}

function laneWords(screen) {
  const word = screen?.word ?? "";
  return {
    word: lang === "ru" ? word : screen?.word_en ?? word,
    reason: (lang === "ru" ? screen?.text : screen?.text_en) ?? "",
    who: [screen?.name, screen?.group].filter(Boolean).join(" · "),
  };
}

function drawLane(at, screen) {
  const tile = $(`lane-${at}`);
  drawTile(tile, screen, Boolean(state.station_entrance?.answers), laneWords(screen));
  if (screen?.state === "taken" && screen.passage !== taken[at]) {
    taken[at] = screen.passage;
    turns[at] += 120;
    tile.style.setProperty("--turn", `${turns[at]}deg`);
  }
}

const tillScreen = () => (state.screens_till ?? [])[0];

function tillWords(screen) {
  const without = screen?.without?.length ? t("without", screen.without.join(", ")) : "";
  const text = (lang === "ru" ? screen?.text : screen?.text_en ?? screen?.text) ?? "";
  return {
    word: (lang === "ru" ? screen?.word : screen?.word_en ?? screen?.word) ?? "",
    reason: [text, without].filter(Boolean).join(". "),
    who: screen?.answer_total ? t("paid", screen.answer_total) : "",
  };
}

function drawTill() {
  const screen = tillScreen();
  drawTile($("till"), screen, Boolean(state.station_till?.answers), tillWords(screen));
  if (asking === 0 && Date.now() >= trustedMs) basketFromScreen();
  drawBasket();
}

function basketFromScreen() {
  basket = new Map((tillScreen()?.basket ?? []).map((line) => [line.product, line.quantity]));
}

function drawBasket() {
  const products = new Map((state.menu ?? []).map((product) => [product.product, product]));
  const lines = [...basket].map(([id, quantity]) => [products.get(id), quantity]).filter(([p]) => p);
  const total = lines.reduce((sum, [p, quantity]) => sum + p.price_minor * quantity, 0);
  keep($("basket"), lines, ([p]) => p.product, basketLine, ([p, quantity], line) => {
    put(line.querySelector("i"), String(quantity));
    put(line.querySelector("b"), money(p.price_minor * quantity));
  });
  if (!lines.length) $("basket").append(make("li", { class: "nothing" }, t("basket_empty")));
  put($("basket-total"), money(total));
  $("clear").disabled = !lines.length;
}

const basketLine = ([p]) => make("li", {}, make("span", {}, p.name), make("span", { class: "count" },
  make("button", { type: "button", "aria-label": t("less", p.name), onclick: () => change(p.product, -1) }, "−"), make("i"),
  make("button", { type: "button", "aria-label": t("more", p.name), onclick: () => change(p.product, 1) }, "+"), make("b")));

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

const stations = () => Object.keys(state).filter((name) => name.startsWith("station_")).map((name) => state[name]);

function drawWire() {
  const on = state.wire === "on";
  $("wire").dataset.wire = state.wire ?? "on";
  $("network").setAttribute("aria-checked", String(on));
  for (const name of ["entrance", "till"]) {
    const station = state[`station_${name}`] ?? {};
    put($(`waiting-${name}`), String(station.waiting ?? 0));
    put($(`acknowledged-${name}`), String(station.acknowledged ?? 0));
    $(`count-${name}`).dataset.waiting = station.waiting ? "yes" : "no";
  }
  const all = stations(), heard = all.filter((station) => station.connected).length;
  put($("city-words"), heard === all.length ? t("city_hears") : t(heard ? "city_some" : "city_waits", heard));
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
      draggable: "true", title: card.name, "data-shape": BANDS.includes(card.label) ? "band" : "card",
      onclick: () => tapCard(card.label, document.querySelector('input[name="at"]:checked').value),
    }, make("b", {}, pick(CARDS[card.label], card.label)),
    make("span", {}, (NOTES[card.label] ? pick(NOTES[card.label]) : card.name ?? card.note) ?? "—"));
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
    ...MORE.map(([id, station, is]) => [id, state[`station_${station}`], moreScreen(station, is)]),
  ]) {
    let words = "";
    if (station && !station.answers) words = t("silent_for", age(station.since_ms));
    else if (station) {
      const lists = station.fresh_ms ? t("lists", t("ago", age(station.fresh_ms))) : t("lists_none");
      const active = screen && screen.colour !== "grey" ? `${t("ago", age(screen.at_ms))} · ` : "";
      // The two first ones have their queues at the top of the page.
      const queue = station.waiting ? `${t("queue", station.waiting)} · ` : "";
      words = $(id).closest("#more") ? queue + (active ? t("ago", age(screen.at_ms)) : lists) : active + lists;
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
$("school-network").addEventListener("click", () => ask("/network", { of: "school", on: state.school_wire !== "on" }));
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
