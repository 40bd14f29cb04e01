// Ctrl+Enter (or Cmd+Enter) presses the visible tab's main button, or the grid's where one types in
// its fields; Esc presses Stop, from any tab, unless it is meant for something else.
(() => {
  const press = (button) => {
    if (button && !button.disabled) button.click();
  };
  const visible = (button) => button.offsetParent !== null;
  const nearest = (element) => {
    const has = (at) => at.querySelectorAll("#grid-draw, button[id$='-run']");
    while (element && !has(element).length) element = element.parentElement;
    return element && has(element).length === 1 ? has(element)[0] : null;
  };
  // A field that one types in has the focus, or a list, menu or dialog is open, which Esc closes.
  const typed = "textarea, select, [contenteditable=true], input:not([type=checkbox], [type=radio], [type=range])";
  const open = "ul[role=listbox], [role=menu], [role=dialog], dialog[open]";
  const taken = () => document.activeElement?.matches(typed)
    || [...document.querySelectorAll(open)].some((element) => element.checkVisibility());
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && !taken()) document.querySelectorAll("#erase-stop, #grid-stop").forEach(press);
    const emptied = event.key === "Enter" && event.target.matches?.("#concept input") && !event.target.value;
    if (emptied) event.stopImmediatePropagation(); // else Gradio takes the first of the list
    if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
    event.preventDefault();
    event.stopImmediatePropagation(); // an open list would take Enter for a choice
    const main = [...document.querySelectorAll("button[id$='-run']")].find(visible);
    const wanted = nearest(document.activeElement) ?? main;
    document.activeElement?.blur(); // so that a field being edited hands over its value
    setTimeout(() => press(wanted), 60);
  }, true);

  // Gradio gives a gallery's pictures their captions as alternative text, and a slider's none.
  const describe = () => {
    document.querySelectorAll(".esd-picker img").forEach((img) => {
      if (!img.alt.includes(",")) img.alt += ", drawn by the base model, seed 1";
    });
    const about = document.querySelector("#compare-caption [data-about]")?.dataset.about;
    if (!about) return;
    document.querySelectorAll("#compare-slider img").forEach((img, i) => {
      const alt = `${about}, ${i ? "erased" : "base"}`;
      if (img.alt !== alt) img.alt = alt;
    });
  };
  new MutationObserver(describe).observe(document.documentElement, {
    subtree: true, childList: true, attributes: true, attributeFilter: ["alt", "data-about"],
  });

  // On a narrow screen the result lies below the fields: bring it into view.
  document.addEventListener("click", (event) => {
    const id = event.target.closest?.("button")?.id;
    if (window.innerWidth >= 720 || !id?.endsWith("-run")) return;
    document.getElementById(id.replace("run", "result"))?.scrollIntoView({ behavior: "smooth" });
  });
})();
