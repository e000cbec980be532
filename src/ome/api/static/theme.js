// Light or dark: what was chosen here, else what the system says. Runs before the page is drawn, so that nothing flashes.
{
  const chosen = () => localStorage.getItem("ome.theme");
  const system = matchMedia("(prefers-color-scheme: dark)");
  const apply = () => {
    document.documentElement.dataset.theme = chosen() ?? (system.matches ? "dark" : "light");
    dispatchEvent(new Event("themechange"));
  };
  system.addEventListener("change", apply);
  addEventListener("DOMContentLoaded", () => {
    document.getElementById("theme").addEventListener("click", () => {
      localStorage.setItem("ome.theme", document.documentElement.dataset.theme === "dark" ? "light" : "dark");
      apply();
    });
  });
  apply();
}
