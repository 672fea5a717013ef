// The till's receipt printer: what came out of it, and a hand at its roll. It shares app.js's state, words and requests.

const PAPER = {
  ru: { slips: "Принтер", empty: "Ещё ничего не напечатано. Пробейте блюдо и приложите карту.", fine: "Бумага есть", low: "Мало бумаги", out: "Нет бумаги", off: "Выключен" },
  en: { slips: "Printer", empty: "Nothing printed yet. Ring up a dish and tap a card.", fine: "Paper in", low: "Paper low", out: "No paper", off: "Off" },
};
const paper = make("details", { id: "paper", class: "paper" });
document.querySelector("#till-title").insertBefore(paper, $("screen-till"));
let paperDrawn = "";
let paperPrinted = null;

function drawPaper() {
  const found = state.paper;
  const key = lang + JSON.stringify(found ?? null);
  if (key === paperDrawn) return;
  paperDrawn = key;
  paper.hidden = !found;
  if (!found) return;
  const words = PAPER[lang];
  const trouble = found.state === "fine" ? "" : ` · ${words[found.state]}`;
  paper.dataset.state = found.state;
  if (paperPrinted !== null && found.printed > paperPrinted) {
    paper.classList.remove("new");
    void paper.offsetWidth; // From the beginning again.
    paper.classList.add("new");
  }
  paperPrinted = found.printed;
  paper.replaceChildren(
    make("summary", { class: "small" }, `${words.slips}: `, make("b", { id: "paper-count" }, String(found.printed)), trouble),
    make("div", { class: "roll" },
      make("p", { class: "hands" }, ...["fine", "low", "out", "off"].map((one) => make("button",
        { type: "button", class: "small", id: `paper-${one}`, "aria-pressed": String(one === found.state && one !== "fine"), onclick: () => ask("/paper", { state: one }) }, words[one]))),
      ...(found.slips.length ? found.slips.map((lines) => make("pre", {}, lines.join("\n").trimEnd())) : [make("p", { class: "none" }, words.empty)])));
}
setInterval(drawPaper, 200);
drawPaper();
