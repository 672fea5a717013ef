// The information screen of a pre-school: the guardian who came in says which children were brought or
// are collected. It shows the newest dialogue and nothing else; who has no dialogue sees no name.
import { ask, begin, button, draw, either, face, h, shape, t, words } from "/common.js";

words({
  ru: {
    guardian: "Кого вы привели или забираете", welcome: "Добрый день!", tap: "Приложите карту к считывателю",
    ask: "{}, отметьте детей", brought: "Привожу", collected: "Забираю", no_child: "Я без ребёнка",
    marked: "Отмечен", mark: "Отметить", in_group: "сейчас в группе", at_home: "сейчас не в группе",
    left: "Осталось {} с", late: "Отметьте, пожалуйста: без отметки ребёнок не записан", thanks: "Спасибо, записано",
    claim: "Ждём охранника: он подтвердит",
  },
  en: {
    guardian: "Which child do you bring or collect", welcome: "Welcome!", tap: "Show your card at the reader",
    ask: "{}, mark the children", brought: "I bring", collected: "I collect", no_child: "I come without a child",
    marked: "Marked", mark: "Mark", in_group: "in the group now", at_home: "not in the group now",
    left: "{} s left", late: "Please mark: a child who is not marked is not recorded", thanks: "Thank you, it is written down",
    claim: "Waiting for the officer to confirm",
  },
});
const THANKS_MS = 4000;
let chosen = new Set();
let of = "";
let said = "";
let thanks = 0;

async function choose(handover, what) {
  const children = what === "no_child" ? [] : handover.children.map((child) => child.child).filter((id) => chosen.has(id));
  const answer = await ask("handover_choose", { dialogue: handover.dialogue, what, children });
  document.getElementById("toast")?.remove(); // What there is to say stands on the screen.
  if (answer.ok) { thanks = Date.now(); chosen = new Set(); said = ""; }
  else said = either(answer.text ?? "", answer.text_en);
  again();
}
let again = () => {};

function show(answer) {
  again = () => show(answer);
  const place = document.getElementById("choice");
  const handover = answer.handover ?? { dialogue: "" };
  if (handover.dialogue !== of) { of = handover.dialogue; chosen = new Set(); said = ""; if (of) thanks = 0; }
  if (!of) {
    const thanking = Date.now() - thanks < THANKS_MS;
    draw(place, ["", thanking], () => [shape(thanking ? "green" : "", thanking ? "go" : "wait"),
      h("p", { class: "big" }, t(thanking ? "thanks" : "welcome")), h("p", { class: "lead" }, thanking ? "" : t("tap"))]);
    place.querySelector(".shape").setAttribute("class", thanking ? "shape hello good" : "shape hello");
    return;
  }
  const { seconds_left: left, ...still } = handover;
  draw(place, [still, [...chosen], said, left === null], () => {
    const many = chosen.size > 0;
    return [
      h("p", { class: "big" }, t("ask", handover.guardian)),
      h("div", { class: "children" }, handover.children.map((child) => h("button", {
        type: "button", class: "child", "aria-pressed": String(chosen.has(child.child)), "data-key": child.child, "data-child": child.child,
        on: { click: () => { chosen.has(child.child) ? chosen.delete(child.child) : chosen.add(child.child); said = ""; again(); } },
      }, face(child.photo, child.name), h("b", {}, child.name),
        h("span", { class: "quiet" }, [child.relation, child.group].filter(Boolean).join(" · "), h("br"), t(child.present ? "in_group" : "at_home")),
        h("span", { class: "tick" }, chosen.has(child.child) ? `✓ ${t("marked")}` : t("mark"))))),
      h("p", { class: "notice lead", role: "alert" }, handover.claim ? t("claim") : said),
      h("div", { class: "row acts" },
        button(t("brought"), () => choose(handover, "brought"), { class: "yes huge", disabled: !many, id: "brought" }),
        button(t("collected"), () => choose(handover, "collected"), { class: "main huge", disabled: !many, id: "collected" }),
        button(t("no_child"), () => choose(handover, "no_child"), { class: "huge", disabled: many, id: "no-child" })),
      h("p", { class: "count num" }, left === null ? t("late") : ""),
    ];
  });
  if (left !== null) place.querySelector(".count").textContent = t("left", left);
}

begin({ title: "guardian", onDraw: show });
