// The theme gives code a stop for the keyboard only while it is in view, and takes it away again; and each
// block's copy button stands in a landmark without a name. Both come after the page, so this waits for them.
const mend = () => {
  document.querySelectorAll("pre > code:not([tabindex])").forEach(code => { code.tabIndex = 0; });
  document.querySelectorAll("nav.md-code__nav:not([role])").forEach(nav => nav.setAttribute("role", "presentation"));
};
new MutationObserver(mend).observe(document.body, {subtree: true, childList: true, attributeFilter: ["tabindex"]});
mend();
