// The till's page: ring up, charge, and what the answer is; beside it what a cashier does without a card.
// It is the same picture whoever pays for the meal. The till holds the basket; the page only draws it.
import { ask, begin, button, draw, either, h, lang, roubles, sayings, shape, state, t, toast, words } from "/common.js";

words({
  ru: {
    charge: "Пробить", cancel_basket: "Очистить", total: "Итого", empty: "Выберите блюда", more: "Больше: {}", less: "Меньше: {}",
    sign_first: "Войдите, чтобы работать с кассой", without: "Без {}: {}", short: "Не хватает {}", repeated: "Та же карта ещё раз: ничего нового не продано",
    collect: "Выдать заказ", cash: "Наличные", tenders: "Чем платить", account: "Счёт", entitlement: "Питание", preorder: "Заказ",
    emergency: "Накормить в долг", override_allergens: "Выдать, несмотря на аллергию", sales: "Продажи смены", void_it: "Отменить", void_last: "Отменить последнюю", print_again: "Напечатать ещё раз",
    voided: "Продажа отменена", groups: "Группы", serve: "Накормить группу", served: "Накормлено: {}", absent: "Нет", present: "Есть", close_out: "Закрыть смену",
    close_sure: "Снять отчёт и закрыть смену?", report: "Отчёт № {}", unsent: "Ещё не отправлено городу: {}", date_slot: "Дата и приём пищи",
    date: "Дата", slot: "Приём пищи", save: "Запомнить", need_date: "Часы не сверены: назовите дату и приём пищи", no_sales: "В этой смене продаж нет",
    nothing_due: "Питание сейчас никому не положено", done: "Готово", other_acts: "Ещё", due: "положено", was_served: "накормлен", substitute: "Заменить блюдо заказа",
    ordered: "Заказано", given: "Выдаётся", why: "Почему", collects: "Выдача заказа: приложите карту", owes: "В долг, по слову старшего: приложите карту", kind_sale: "Продаж", kind_sale_refused: "Отказов", kind_void: "Отмен", kind_refund: "Возвратов", kind_meal_served: "Накормлено без карты", kind_preorder_uncollected: "Не забрано заказов", grams: "Граммы: {}",
    confirm_first: "Нужен старший: его карта и ПИН", disk: "Память станции отказывает: сообщите технику", for_one: "Кого накормить", scanned: "Штрих-код не найден: {}", scan_unknown: "Штрих-код не найден: {}", scan_misread: "Код прочитан с ошибкой, ещё раз: {}", scan_weight: "Взвесьте: на этикетке нет веса ({})", scan_busy: "Касса ждёт другие кассы: секунду", scan_lines: "Больше в набор не входит", scan_quantity: "Больше в набор не входит", scan_price: "Цена невозможна: {}", scan_total: "Больше в набор не входит", breakfast: "завтрак", lunch: "обед", dinner: "ужин", snack: "полдник",
    feed_one: "В долг", by_presence: "Только кто пришёл", refund: "Вернуть деньги", refunded: "Возврат записан: деньги вернёт город", sale_number: "Номер продажи", other_till: "Касса (пусто: эта)",
    series: "Серия (пусто: нынешняя)", reason_word: "Почему возвращаем", refund_note: "Для продаж прошлых смен и других касс. Дальше выберите, что вернуть.", refund_one: "Вернуть", show_lines: "Показать блюда",
    refund_lines: "Что вернуть: продажа № {}", left_none: "не возвращается", refund_sum: "К возврату", refund_senior: "Подтверждает старший: карта и ПИН.", back_all: "Всё",
    back_cash: "Выдайте из кассы: {}", back_account: "На счёт (вернёт город): {}", back_emergency: "Списано с долга или с расхода школы: {}", refund_done: "Возврат записан", why_cold: "Остыло", why_wrong: "Не то блюдо", why_spoilt: "Испорчено", why_other: "Другое",
    emergency_nobody: "Накормить без карты", nobody_note: "Ребёнка нет в списках, или карта не читается. Платит школа; отвечает старший.", nobody_allergy: "Об аллергиях касса не знает: спросите ребёнка или учителя.", feed_now: "Накормить",
    order_title: "Заказ по этой карте", need_weight: "взвесить, г", need_off_menu: "нет в меню, вместо него", need_too_much: "не входит в набор: выдать потом", order_ready: "Готово: приложить карту", order_rest: "Выдать остальное", choose: "— выберите —", portions: "порций: {}",
    refunded_by: "Возвращено: {}", charged_as: "Чем оплачено", in_debt: "в долг",
  },
  en: {
    charge: "Charge", cancel_basket: "Clear", total: "Total", empty: "Choose dishes", more: "More: {}", less: "Less: {}",
    sign_first: "Sign in to use the till", without: "Without {}: {}", short: "{} too little", repeated: "The same card again: nothing more was sold",
    collect: "Hand over an order", cash: "Cash", tenders: "Paid by", account: "Account", entitlement: "Meals", preorder: "Order",
    emergency: "Feed on credit", override_allergens: "Serve in spite of the allergy", sales: "Sales of this shift", void_it: "Void", void_last: "Void the last one", print_again: "Print again",
    voided: "The sale is void", groups: "Groups", serve: "Serve the group", served: "Served: {}", absent: "Absent", present: "Here", close_out: "Close out",
    close_sure: "Print the report and close the shift?", report: "Report no. {}", unsent: "Not sent to the city yet: {}", date_slot: "Date and meal",
    date: "Date", slot: "Meal", save: "Keep", need_date: "The clock is not sure: say the date and the meal", no_sales: "No sales in this shift",
    nothing_due: "No meal is due to anybody now", done: "Done", other_acts: "More", due: "due", was_served: "served", substitute: "Replace an ordered dish",
    ordered: "Ordered", given: "Given", why: "Why", collects: "Handing over an order: show the card", owes: "On credit, by a supervisor's word: show the card", kind_sale: "Sales", kind_sale_refused: "Refusals", kind_void: "Voids", kind_refund: "Refunds", kind_meal_served: "Served without a card", kind_preorder_uncollected: "Orders not collected", grams: "Grams: {}",
    confirm_first: "A supervisor is needed: card and PIN", disk: "The station's disk refuses: tell the technician", for_one: "Who is to be fed", scanned: "No such barcode: {}", scan_unknown: "No such barcode: {}", scan_misread: "Misread, scan again: {}", scan_weight: "Weigh it: the label has no weight ({})", scan_busy: "The till waits for the other tills: a moment", scan_lines: "The basket holds no more", scan_quantity: "The basket holds no more", scan_price: "An impossible price: {}", scan_total: "The basket holds no more",
    feed_one: "On credit", by_presence: "Only who is present", refund: "Give back", refunded: "Recorded: the city gives the money back", sale_number: "Number of the sale", other_till: "Till (empty: this one)",
    series: "Series (empty: the present one)", reason_word: "Why it is given back", refund_note: "For sales of former shifts and of other tills. Then choose what is given back.", refund_one: "Give back", show_lines: "Show its dishes",
    refund_lines: "What is given back: sale no. {}", left_none: "not given back", refund_sum: "To give back", refund_senior: "A supervisor confirms: card and PIN.", back_all: "All",
    back_cash: "Hand out of the drawer: {}", back_account: "To the account (by the city): {}", back_emergency: "Owed less, by the family or by the school: {}", refund_done: "The refund is recorded", why_cold: "Cold", why_wrong: "The wrong dish", why_spoilt: "Spoilt", why_other: "Other",
    emergency_nobody: "Feed without a card", nobody_note: "The child is on no list, or its card cannot be read. The school pays; a supervisor answers for it.", nobody_allergy: "The till knows of no allergies: ask the child or the teacher.", feed_now: "Feed",
    order_title: "The order of this card", need_weight: "weigh, g", need_off_menu: "not on the menu, in its place", need_too_much: "does not fit: hand it over later", order_ready: "Ready: show the card", order_rest: "Hand over the rest", choose: "— choose —", portions: "portions: {}",
    refunded_by: "Given back: {}", charged_as: "Paid by", in_debt: "on credit",
  },
});
sayings([
  [/^a supervisor has to/, "Сначала старший: карта и ПИН"], [/sign in/, "Сначала войдите: карта и ПИН"], [/^ring the/, "Сначала наберите блюда"], [/^give the date/, "Сначала назовите дату"],
  [/waits for the other tills|being paid/, "Касса ждёт другие кассы: секунду"], [/not in the menu/, "Такого блюда в меню уже нет"], [/basket cannot take/, "Больше в набор не входит"],
  [/takes no cash/, "Эта касса не берёт наличных"], [/nothing to pay for/, "Платить не за что, или касса не может записать"], [/this till takes/, "Эта касса так не берёт"],
  [/^that sale is void/, "Эта продажа отменена: возвращать нечего"], [/^more than is left/, "Столько уже не осталось: посмотрите ещё раз"], [/^no money is left/, "Деньгами за это не платили, или всё уже вернули"],
  [/^paid in cash at another/, "Наличные возвращает касса, которая продала"], [/^the sale names no account|^not on the menu any more/, "Вернуть это может только город"], [/^given back in part/, "Часть уже вернули: отменить нельзя, вернуть остальное может старший"],
  [/nothing that is weighed|grams$/, "Вес от 1 до 20000 граммов"], [/^no sale of this till and shift/, "Такой продажи в этой смене нет, или её уже отменили: старший может вернуть деньги"], [/not held here/, "Этой продажи здесь нет: вернуть может город"],
  [/name the slot/, "Сейчас не кормят: выберите приём пищи"], [/nobody of this group/, "В группе сейчас никому не положено"], [/^charge the basket/, "Сначала пробейте набор"],
  [/no date is needed/, "Часы идут верно: дата не нужна"], [/no slot of this site/, "Такого приёма пищи здесь нет"], [/too_early|malformed/, "Такой даты быть не может: посмотрите на календарь"],
  [/not on the menu$/, "Штрих-код не найден"], [/misread; scan/, "Код прочитан с ошибкой: ещё раз"], [/weigh it, or/, "Взвесьте: на этикетке нет веса"], [/no printer/, "Принтера нет"], [/slips wait/, "Принтер не успевает: посмотрите на него"], [/nothing was sold|no close-out/, "Печатать ещё нечего"], [/must (be|name|say)/, "Заполнено не всё или с ошибкой"],
]);
const SHAPE_OF = { green: "go", red: "stop", amber: "ask", blue: "wait", grey: "cart" };
const KINDS = ["sale", "sale_refused", "void", "refund", "meal_served", "preorder_uncollected"];
const money = (minor) => roubles(minor);
const SHOWN_MS_MAX = 1000; // Our choice: a basket that never comes back so (sold meanwhile) holds nobody longer.
let menu = null;
let category = "";
let actsOpen = false;
let pending = null; // What a supervisor was asked to confirm.

const till = (answer) => answer.screens.find((one) => one.till);
const lines = (shown) => shown.basket.map((line) => [line.product, line.quantity, ...(line.grams ? [line.grams] : [])]);
// One change after the other, each to the basket as the till shows it: two quick presses are two dishes.
let ringing = Promise.resolve();
function ring(change) {
  ringing = ringing.then(() => rung(change));
  return ringing;
}
async function rung(change) {
  const basket = lines(till(state.answer));
  const at = basket.findIndex(([product]) => product === change.product);
  if (at < 0) basket.push(change.grams ? [change.product, 1, change.grams] : [change.product, change.by]);
  else if (change.grams) basket[at] = [change.product, 1, change.grams];
  else basket[at] = [change.product, basket[at][1] + change.by];
  const wanted = basket.filter(([, quantity]) => quantity > 0);
  const answer = await ask("ring", { lines: wanted });
  const mark = (some) => JSON.stringify(some.toSorted());
  const lateMs = Date.now() + SHOWN_MS_MAX;
  while (answer.ok && Date.now() < lateMs && mark(lines(till(state.answer))) !== mark(wanted)) {
    await new Promise((done) => { setTimeout(done, 20); });
  }
}

function tile(shown) {
  draw(document.getElementById("tile"), shown, () => {
    const extra = [];
    if (shown.without.length) extra.push(t("without", shown.without.join(", "), shown.without_total));
    if (shown.short) extra.push(t("short", shown.short));
    if (shown.repeated) extra.push(t("repeated"));
    if (shown.emergency && shown.state !== "sold" && shown.state !== "refused") extra.push(t("owes"));
    else if (shown.collects && shown.state === "open") extra.push(t("collects"));
    extra.push(...shown.notes.map((note) => either(note.text, note.text_en)));
    return h("article", { class: "tile", "data-colour": shown.colour, "data-state": shown.state },
      shape(shown.colour, SHAPE_OF[shown.colour]),
      h("div", { class: "say" }, h("b", { class: "word" }, either(shown.word, shown.word_en)),
        h("p", { class: "reason" }, either(shown.text, shown.text_en)),
        h("p", { class: "answer num" }, [shown.answer_total, ...extra].filter(Boolean).join(" · "))));
  });
}

function pick(product) {
  if (!product.weighed) return ring({ product: product.product, by: 1 });
  const grams = h("input", { type: "number", min: "1", max: "20000", inputmode: "numeric", id: "grams" });
  dialogue(h("h2", {}, product.name), h("label", {}, h("p", {}, t("grams", "")), grams),
    h("div", { class: "row" }, button(t("cancel"), shut), button(t("done"), () => {
      const weight = Number(grams.value);
      if (weight > 0) { ring({ product: product.product, grams: Math.round(weight) }); shut(); }
    }, { class: "main" })));
  grams.focus();
  return null;
}
function drawMenu(signed) {
  const place = (one) => (ORDER.indexOf(one) + ORDER.length + 1) % (ORDER.length + 1); // What is not named stands last.
  const categories = [...new Set((menu ?? []).map((one) => one.category))].sort((one, other) => place(one) - place(other));
  if (!categories.includes(category)) category = categories[0] ?? "";
  draw(document.getElementById("categories"), [categories, category], () => (categories.length > 1 ? categories.map((one) => button(CATEGORY[lang]?.[one] ?? one,
    () => { category = one; drawMenu(Boolean(state.answer.staff.cashier)); }, { role: "tab", "aria-selected": String(one === category), "data-key": `category-${one}` })) : []));
  draw(document.getElementById("menu"), [menu, category, signed], () => (menu ?? []).filter((one) => one.category === category).map((one) => button("",
    () => pick(one), { "data-product": one.product, "data-key": `menu-${one.product}`, disabled: !signed })).map((made, at) => {
    const one = menu.filter((each) => each.category === category)[at];
    made.append(h("b", {}, one.name), h("span", {}, money(one.price_minor)));
    return made;
  }));
}
const ORDER = ["breakfast", "porridge", "soup", "hot", "main", "side", "salad", "pastry", "sandwich", "dessert", "fruit", "dairy", "bread", "drink", "chocolate", "snack"];
const CATEGORY = {
  ru: { soup: "Супы", main: "Второе", drink: "Напитки", pastry: "Выпечка", chocolate: "Шоколад", sandwich: "Бутерброды", salad: "Салаты", breakfast: "Завтраки", fruit: "Фрукты", dessert: "Десерты", side: "Гарниры", snack: "Перекус", hot: "Горячее", porridge: "Каши", bread: "Хлеб", dairy: "Молочное", buffet: "Буфет" },
  en: {},
};

function receipt(answer, shown) {
  const signed = Boolean(answer.staff.cashier);
  const seen = [shown.basket, shown.total_minor, signed, shown.tenders, shown.chosen, shown.phase, shown.date_needed, shown.reason, shown.last_sale, shown.slots, shown.substitutions];
  draw(document.getElementById("receipt"), seen, () => {
    const full = shown.basket.length > 0;
    const acts = [
      [shown.tenders.includes("preorder"), "collect", () => ask("charge", { collect: true })],
      [shown.tenders.includes("cash") && full, "cash", () => ask("cash")],
      [shown.reason === "purchase.allergen", "override_allergens", () => confirm("override_allergens")],
      [full, "emergency", () => confirm("emergency")],
      [full, "emergency_nobody", askNobody],
      [shown.substitutions.length > 0, "substitute", substitute],
      [shown.last_sale, "void_last", () => voidSale(shown.last_sale)],
      [shown.last_sale && shown.printer, "print_again", () => ask("print", { what: "sale" })],
      [true, "sales", showSales],
      [true, "groups", showGroups],
      [!answer.clock_trusted, "date_slot", askDate],
      [true, "close_out", askCloseOut],
    ];
    return [
      !signed && h("p", { class: "bar info" }, t("sign_first")),
      signed && shown.date_needed && h("p", { class: "bar amber row" }, h("span", { class: "grow" }, t("need_date")), button(t("date_slot"), askDate, { id: "need-date" })),
      h("ul", { class: "basket", id: "basket" }, full ? shown.basket.map((line) => h("li", { "data-product": line.product },
        h("span", {}, line.name), h("span", { class: "step num" },
          button("−", () => ring({ product: line.product, by: -1 }), { "aria-label": t("less", line.name), "data-key": `less-${line.product}`, disabled: !signed }),
          line.grams ? `${line.grams} г` : String(line.quantity),
          !line.grams && button("+", () => ring({ product: line.product, by: 1 }), { "aria-label": t("more", line.name), "data-key": `more-${line.product}`, disabled: !signed })),
        h("b", { class: "num" }, money(line.amount_minor)))) : h("li", { class: "quiet" }, t("empty"))),
      h("p", { class: "sum" }, h("span", {}, t("total")), h("span", { class: "num", id: "total" }, money(shown.total_minor))),
      shown.tenders.length > 1 && h("div", { class: "row", role: "group", "aria-label": t("tenders") }, shown.tenders.filter((one) => one !== "cash").map((one) => button(t(one),
        () => ask("tender", { tenders: shown.chosen.includes(one) ? shown.chosen.filter((each) => each !== one) : [...shown.chosen, one] }),
        { "aria-pressed": String(shown.chosen.includes(one)), class: "chip", "data-key": `tender-${one}`, disabled: !signed }))),
      h("div", { class: "row" },
        button(t("charge"), () => ask("charge"), { class: "main charge grow", id: "charge", disabled: !full || !signed }),
        button(t("cancel_basket"), () => ask("cancel"), { class: "charge", id: "clear", disabled: !full && shown.phase === "open" })),
      h("details", { id: "acts", open: actsOpen, on: { toggle: (event) => { actsOpen = event.target.open; } } }, h("summary", {}, t("other_acts")),
        h("div", { class: "row" }, acts.filter(([there]) => there).map(([, name, act]) => button(t(name), act, { "data-key": name, id: `act-${name}`, disabled: !signed })))),
    ];
  });
}

// ---- what needs a supervisor: their card and PIN first, then the act, once

async function confirm(what, body = {}, done = null) {
  const act = { what, body, done };
  if (state.answer.staff.proved === what) { await carryOut(act); return; }
  if ((await ask("supervise_start", { act: what })).ok) { pending = act; toast(t("confirm_first")); }
}
async function carryOut({ what, body, done }) {
  const answer = await ask(what, body);
  if (answer.ok && done) done(answer);
}
let talking = false;
function afterProof(staff) {
  if (pending && staff.proved === pending.what) { const act = pending; pending = null; carryOut(act); }
  else if (pending && talking && !staff.dialogue) pending = null; // Given up, or timed out.
  talking = Boolean(staff.dialogue);
}

// ---- dialogues

function dialogue(...content) {
  const box = document.getElementById("box");
  box.onclose = () => box.replaceChildren();
  box.replaceChildren(h("div", { class: "panel" }, content));
  if (!box.open) box.showModal();
}
const shut = () => document.getElementById("box").close();
async function voidSale(sale) {
  if ((await ask("void", { sale: sale.sale, epoch: sale.epoch })).ok) { toast(t("voided")); return true; }
  return false;
}
const named = (product) => menu?.find((one) => one.product === product)?.name ?? product;
async function showSales() {
  const answer = await ask("sales");
  if (!answer.ok) return;
  dialogue(h("h2", {}, t("sales")), answer.sales.length ? h("table", { id: "sales" }, answer.sales.map((sale) => h("tr", { "data-sale": sale.sale },
    h("td", { class: "num" }, `№ ${sale.sale}`), h("td", {}, sale.lines.map(([product, quantity, grams]) => `${named(product)}${grams ? `, ${grams} г` : quantity > 1 ? ` × ${quantity}` : ""}`).join(", ")),
    h("td", { class: "num" }, money(sale.total_minor)),
    h("td", { class: "num two" }, button(t("refund_one"), () => refundLines({ sale: sale.sale, epoch: sale.epoch }), { "data-refund": sale.sale }),
      button(t("void_it"), async () => { if (await voidSale(sale)) showSales(); }, { class: "no" }))))) : h("p", {}, t("no_sales")),
  h("div", { class: "row" }, button(t("close"), shut), button(t("refund"), askRefund, { id: "refund-open" })));
}
function askNobody() {
  dialogue(h("h2", {}, t("emergency_nobody")), h("p", {}, t("nobody_note")), h("p", { class: "bar amber" }, t("nobody_allergy")),
    h("div", { class: "row" }, button(t("cancel"), shut), button(t("feed_now"), () => { shut(); confirm("emergency", { nobody: true }); }, { class: "main", id: "nobody-go" })));
}
function askRefund() {
  const sale = h("input", { type: "number", min: "1", inputmode: "numeric", id: "refund-sale" });
  const device = h("input", { type: "text", maxlength: "60", id: "refund-device" }), epoch = h("input", { type: "text", maxlength: "16", id: "refund-epoch" });
  const field = (name, input) => h("label", {}, h("p", {}, t(name)), input);
  dialogue(h("h2", {}, t("refund")), h("p", { class: "quiet" }, t("refund_note")),
    field("sale_number", sale), field("other_till", device), field("series", epoch),
    h("div", { class: "row" }, button(t("cancel"), shut), button(t("show_lines"), () => {
      if (sale.value) refundLines({ sale: Math.round(Number(sale.value)), device: device.value.trim(), epoch: epoch.value.trim() });
      else toast(t("sale_number"));
    }, { class: "main", id: "refund-find" })));
  sale.focus();
}
// Which pieces of a sale come back: none at first, and no more than are left.
async function refundLines(key) {
  const answer = await ask("sale", key);
  if (!answer.ok) return;
  const chosen = answer.lines.map(() => 0);
  const piece = (line) => (line.grams ? line.amount_minor : line.price_minor);
  const sum = h("span", { class: "num", id: "refund-total" });
  const why = h("select", { id: "refund-why" }, ["cold", "wrong", "spoilt", "other"].map((one) => h("option", { value: one }, t(`why_${one}`))));
  const go = button(t("refund"), () => {
    const lines = answer.lines.flatMap((line, at) => (chosen[at] ? [[line.product, line.price_minor, chosen[at]]] : []));
    shut();
    confirm("refund", { sale: answer.sale, device: answer.device, epoch: answer.epoch, why: t(`why_${why.value}`), lines }, showRefunded);
  }, { class: "main", id: "refund-go" });
  const counts = answer.lines.map(() => h("b", { class: "num" }));
  const say = () => {
    counts.forEach((one, at) => { one.textContent = `${chosen[at]} / ${answer.lines[at].left}`; });
    sum.textContent = money(answer.lines.reduce((total, line, at) => total + chosen[at] * piece(line), 0));
    go.disabled = !chosen.some(Boolean);
  };
  const step = (at, by) => { chosen[at] = Math.max(0, Math.min(answer.lines[at].left, chosen[at] + by)); say(); };
  const rows = answer.lines.map((line, at) => h("tr", { "data-product": line.product }, h("td", {}, `${line.name}${line.grams ? `, ${line.grams} г` : ""}`), h("td", { class: "num" }, money(piece(line))),
    h("td", { class: "num" }, line.left ? h("span", { class: "step" }, button("−", () => step(at, -1), { "aria-label": t("less", line.name), "data-back": -1 }), counts[at],
      button("+", () => step(at, 1), { "aria-label": t("more", line.name), "data-back": 1 })) : h("span", { class: "quiet" }, t("left_none")))));
  say();
  dialogue(h("h2", {}, t("refund_lines", answer.sale)), h("table", { id: "refund-lines" }, rows),
    h("p", { class: "sum" }, h("span", {}, t("refund_sum")), sum), h("label", {}, h("p", {}, t("reason_word")), why), h("p", { class: "quiet" }, t("refund_senior")),
    h("div", { class: "row" }, button(t("cancel"), shut), button(t("back_all"), () => { answer.lines.forEach((line, at) => { chosen[at] = line.left; }); say(); }, { id: "refund-all" }), go));
}
function showRefunded(answer) {
  const back = answer.back_minor_by_tender;
  const account = (back.account ?? 0) + (back.preorder ?? 0);
  dialogue(h("h2", {}, t("refund_done")), h("div", { id: "refunded", class: "list" }, back.cash && h("p", { class: "bar amber" }, t("back_cash", money(back.cash))), account > 0 && h("p", {}, t("back_account", money(account))),
    back.emergency && h("p", {}, t("back_emergency", money(back.emergency)))), h("div", { class: "row" }, button(t("close"), shut, { class: "main" })));
}
async function showGroups() {
  const answer = await ask("group_list");
  if (!answer.ok) return;
  dialogue(h("h2", {}, `${t("groups")}${answer.slot ? ` · ${t(answer.slot)}` : ""}`),
    h("div", { class: "row wrap" }, answer.groups.map((one) => button(`${one.group} (${one.size})`, () => showGroup(one.group)))),
    answer.groups.length === 0 && h("p", {}, t("nothing_due")), h("div", { class: "row" }, button(t("close"), shut)));
}
async function showGroup(group, present = false) {
  const answer = await ask("group_list", { group, from_presence: present });
  if (!answer.ok) return;
  const absent = new Set(answer.members.filter((one) => !one.present).map((one) => one.cardholder));
  const rows = answer.members.map((one) => {
    const mark = h("button", { type: "button", class: "chip", "aria-pressed": String(!absent.has(one.cardholder)), disabled: one.served || !one.due }, "");
    const say = () => { mark.textContent = t(absent.has(one.cardholder) ? "absent" : "present"); mark.setAttribute("aria-pressed", String(!absent.has(one.cardholder))); };
    mark.addEventListener("click", () => { absent.has(one.cardholder) ? absent.delete(one.cardholder) : absent.add(one.cardholder); say(); });
    say();
    return h("tr", {}, h("td", {}, one.name || one.cardholder), h("td", { class: "quiet" }, one.served ? t("was_served") : one.due ? t("due") : "—"), h("td", { class: "num" }, mark,
      till(state.answer).basket.length > 0 && button(t("feed_one"), () => { shut(); confirm("emergency", { cardholder: one.cardholder }); }, { "data-key": `feed-${one.cardholder}` })));
  });
  dialogue(h("h2", {}, `${group} · ${answer.slot ? t(answer.slot) : ""}`), h("table", {}, rows),
    h("div", { class: "row" }, button(t("by_presence"), () => showGroup(group, !present), { class: "chip", "aria-pressed": String(present), id: "by-presence" })),
    h("div", { class: "row" }, button(t("close"), shut), button(t("serve"), async () => {
      const done = await ask("serve_group", { group, slot: answer.slot, absent: [...absent], from_presence: present });
      if (done.ok) { shut(); toast(t("served", typeof done.served === "number" ? done.served : done.served?.length ?? "")); }
    }, { class: "yes" })));
}
// What the card's order still needs: a weight, or something in the place of what the menu has no more.
function orderPanel(shown, signed) {
  const place = document.getElementById("order");
  place.hidden = !shown.order.length || !signed;
  draw(place, [shown.order, signed, shown.substitutions, menu], () => {
    const made = shown.order.map((line) => {
      const other = line.given ? named(line.given) : "";
      const weight = line.weighed && h("input", { type: "number", min: "1", max: "20000", inputmode: "numeric", value: line.grams || "", "aria-label": `${line.name}: ${t("need_weight")}`, "data-weigh": line.given || line.product });
      const given = line.need === "off_menu" && h("select", { "data-instead": line.product, "aria-label": `${line.name}: ${t("need_off_menu")}` }, h("option", { value: "" }, t("choose")), (menu ?? []).map((one) => h("option", { value: one.product }, one.name)));
      return h("li", { "data-need": line.need, "data-product": line.product }, h("b", {}, line.name), h("span", { class: "quiet" }, line.weighed ? t("portions", line.quantity) : `× ${line.quantity}`, other && ` → ${other}`),
        h("span", { class: "row" }, line.need && h("span", { class: "badge amber" }, t(`need_${line.need}`)), weight, given));
    });
    const lacks = new Set(shown.order.filter((line) => line.need).map((line) => line.preorder)); // Orders that cannot go as they are.
    const why = shown.order.some((line) => line.need === "off_menu") && shown.substitutions.length > 0 && h("label", { class: "row" }, t("why"), h("select", { id: "order-why" }, shown.substitutions.map((one) => h("option", { value: one }, one))));
    const fill = (rest) => {
      const grams = Object.fromEntries([...place.querySelectorAll("[data-weigh]")].filter((one) => one.value).map((one) => [one.dataset.weigh, Math.round(Number(one.value))]));
      const given = { ...shown.substituted, ...Object.fromEntries([...place.querySelectorAll("[data-instead]")].filter((one) => one.value).map((one) => [one.dataset.instead, one.value])) };
      ask("prepare", { grams, rest, ...(Object.keys(given).length ? { given, why: document.getElementById("order-why")?.value ?? shown.substituted_why } : {}) });
    };
    return [h("h2", {}, t("order_title")), h("ul", { class: "list" }, made), h("div", { class: "row" }, why, h("span", { class: "grow" }),
      lacks.size > 0 && shown.order.some((line) => !lacks.has(line.preorder)) && button(t("order_rest"), () => fill(true), { id: "order-rest" }), button(t("cancel"), () => ask("cancel"), { id: "order-cancel" }), button(t("order_ready"), () => fill(false), { class: "main", id: "order-go" }))];
  });
}
function askDate() {
  const shown = till(state.answer);
  const date = h("input", { type: "date", id: "date", value: shown.date });
  const slot = h("select", { id: "slot" }, h("option", { value: "" }, "—"), shown.slots.map((one) => h("option", { value: one }, t(one))));
  dialogue(h("h2", {}, t("date_slot")), h("label", {}, h("p", {}, t("date")), date), h("label", {}, h("p", {}, t("slot")), slot),
    h("div", { class: "row" }, button(t("cancel"), shut), button(t("save"), async () => {
      if ((await ask("give_date", { date: date.value, slot: slot.value })).ok) shut();
    }, { class: "main", id: "date-go" })));
}
function substitute() {
  const shown = till(state.answer);
  const choose = (id) => h("select", { id }, menu.map((one) => h("option", { value: one.product }, one.name)));
  const ordered = choose("ordered"), given = choose("given");
  const why = h("select", { id: "why" }, shown.substitutions.map((one) => h("option", { value: one }, one)));
  dialogue(h("h2", {}, t("substitute")), h("label", {}, h("p", {}, t("ordered")), ordered), h("label", {}, h("p", {}, t("given")), given), h("label", {}, h("p", {}, t("why")), why),
    h("div", { class: "row" }, button(t("cancel"), shut), button(t("done"), async () => {
      if ((await ask("substitute", { given: { [ordered.value]: given.value }, why: why.value })).ok) shut();
    }, { class: "main" })));
}
function askCloseOut() {
  dialogue(h("h2", {}, t("close_out")), h("p", {}, t("close_sure")),
    h("div", { class: "row" }, button(t("cancel"), shut), button(t("close_out"), async () => {
      const report = await ask("close_out");
      if (!report.ok) return;
      dialogue(h("h2", {}, t("report", report.number)), h("p", { class: "quiet" }, report.business_date),
        h("table", { id: "report" }, Object.entries(report.totals).map(([name, total]) => h("tr", {}, h("td", {}, t(name === "emergency" ? "in_debt" : name)), h("td", { class: "num" }, total))),
          KINDS.filter((kind) => report.count_by_kind[kind]).map((kind) => h("tr", {}, h("td", { class: "quiet" }, t(`kind_${kind}`)), h("td", { class: "num" }, String(report.count_by_kind[kind]))))),
        Object.keys(report.refunded).length > 0 && h("table", { id: "report-back" }, Object.entries(report.refunded).map(([name, total]) => h("tr", {}, h("td", { class: "quiet" }, t("refunded_by", t(name === "emergency" ? "in_debt" : name))), h("td", { class: "num" }, total)))),
        h("p", {}, t("unsent", report.unsent)), h("div", { class: "row" }, button(t("close"), shut)));
    }, { class: "main", id: "close-go" })));
}

// ---- a scanner types digits and Enter

let typed = "";
let typedAt = 0;
document.addEventListener("keydown", (event) => {
  if (document.querySelector("dialog[open]") || /INPUT|SELECT/.test(event.target.tagName)) return;
  if (Date.now() - typedAt > 300) typed = ""; // Our choice: no hand types a barcode so fast.
  typedAt = Date.now();
  if (/^[0-9]$/.test(event.key)) typed += event.key;
  else if (event.key === "Enter" && typed.length >= 6) {
    event.preventDefault();
    const found = menu?.find((one) => one.barcode === typed);
    if (found) pick(found);
    else {
      const code = typed; // A label of a scale, or nothing of ours: the station knows.
      ask("scan", { code }); // Why not comes with the screen.
    }
    typed = "";
  }
});

// A scanner on the station's own port: what it read that is no dish is said as well.
let toldScan = "";
function scanned(shown) {
  const found = shown.scanned ?? {};
  const key = found.problem ? `${found.code} ${found.problem}` : "";
  if (key && key !== toldScan) toast(t(found.problem === "busy" ? "scan_busy" : `scan_${found.problem}`, found.code));
  toldScan = key;
}

let fetched = 0;
async function fetchMenu() {
  const answer = await ask("menu");
  if (answer.ok) { menu = answer.products; if (state.answer) show(state.answer); }
}
function show(answer) {
  const shown = till(answer);
  if (!shown) return;
  if (Date.now() - fetched > 60_000) { fetched = Date.now(); fetchMenu(); }
  tile(shown);
  drawMenu(Boolean(answer.staff.cashier));
  receipt(answer, shown);
  orderPanel(shown, Boolean(answer.staff.cashier));
  scanned(shown);
  afterProof(answer.staff);
}
begin({ role: "cashier", title: "cashier", onDraw: show });
