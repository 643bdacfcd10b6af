// A table that is wider than its page scrolls in a box of the theme's. Keys can scroll the box if it can have the focus.
const reach = () => {
  for (const box of document.querySelectorAll('.md-typeset__scrollwrap')) {
    if (box.scrollWidth > box.clientWidth) {
      Object.assign(box, {tabIndex: 0, role: 'group', ariaLabel: 'Wide table'});
    } else {
      box.removeAttribute('tabindex');
    }
  }
};
addEventListener('load', reach);
addEventListener('resize', reach);
new MutationObserver(reach).observe(document.body, {childList: true, subtree: true}); // the theme makes the boxes late
