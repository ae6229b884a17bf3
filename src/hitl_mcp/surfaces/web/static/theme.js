// Light or dark: what the system says, or what somebody chose here. Not a module, so that it runs before the first paint.

{
  const THEME = "hitl-mcp.theme";
  const use = (name) => {
    if (name === "light" || name === "dark") document.documentElement.dataset.theme = name;
    else delete document.documentElement.dataset.theme;
  };
  use(localStorage.getItem(THEME));
  document.addEventListener("DOMContentLoaded", () => {
    const choice = document.getElementById("theme");
    choice.value = document.documentElement.dataset.theme ?? "system";
    choice.addEventListener("change", () => {
      if (choice.value === "system") localStorage.removeItem(THEME);
      else localStorage.setItem(THEME, choice.value);
      use(choice.value);
    });
  });
  window.addEventListener("storage", (event) => {
    if (event.key !== THEME) return;
    use(event.newValue);
    document.getElementById("theme").value = event.newValue ?? "system";
  });
}
