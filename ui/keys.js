// Ctrl+Enter (or Cmd+Enter) presses the visible tab's main button, Esc presses Stop.
(() => {
  const press = (id) => {
    const button = document.getElementById(id);
    const ready = button && button.offsetParent !== null && !button.disabled;
    if (ready) button.click();
    return ready;
  };
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") ["erase-stop", "grid-stop"].forEach(press);
    if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
    event.preventDefault();
    event.stopImmediatePropagation(); // an open list would take Enter for a choice
    document.activeElement?.blur(); // so that a field being edited hands over its value
    setTimeout(() => document.querySelectorAll("button[id$='-run']").forEach((b) => press(b.id)), 60);
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
