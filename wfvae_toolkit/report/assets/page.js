/* The page's data, theme and sections. Data arrive by a script that calls receiveReport: a page from disk may not fetch. */
(function () {
  'use strict';
  const page = window.page = {data: null, version: null, parts: []};

  /* An element with properties, and children that are elements or texts; texts never become HTML. */
  page.make = function (tag, properties, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(properties || {})) {
      if (name in element && name !== 'style') element[name] = value; else element.setAttribute(name, value);
    }
    element.append(...children);
    return element;
  };
  page.byId = (id) => document.getElementById(id);

  /* Fill a select with [value, text] pairs; keeps what was chosen if it is still there. */
  page.fill = function (select, pairs, preferred) {
    const before = select.value;
    select.replaceChildren(...pairs.map(([value, text]) => page.make('option', {value: String(value)}, text)));
    const values = pairs.map(([value]) => String(value));
    const wanted = [before, String(preferred)].find((value) => values.includes(value));
    if (wanted !== undefined) select.value = wanted;
  };
  page.number = function (value) {
    if (value === null || value === undefined) return 'not scored';
    if (!Number.isFinite(value)) return Number.isNaN(value) ? 'not a number' : value > 0 ? 'infinite' : '-infinite';
    const size = Math.abs(value);
    if (size !== 0 && (size >= 1e6 || size < 1e-3)) return value.toExponential(3);
    return size >= 100 ? value.toFixed(1) : size >= 10 ? value.toFixed(2) : value.toFixed(4);
  };
  page.colour = function (number) {
    const probe = page.make('span', {style: `color: var(--run-${number % 8})`});
    return page.resolve(probe);
  };
  page.css = (name) => page.resolve(page.make('span', {style: `color: var(${name})`}));
  page.resolve = function (probe) {
    document.body.append(probe);
    const colour = getComputedStyle(probe).color;
    probe.remove();
    return colour;
  };
  page.table = function (caption, head, rows) {
    const cell = (tag, scope) => (text) => page.make(tag, scope ? {scope} : {}, text);
    return page.make('table', {className: 'numbers'}, page.make('caption', {}, caption),
      page.make('thead', {}, page.make('tr', {}, ...head.map(cell('th', 'col')))),
      page.make('tbody', {}, ...rows.map(([first, ...others]) =>
        page.make('tr', {}, cell('th', 'row')(first), ...others.map(cell('td'))))));
  };

  window.receiveReport = function (data, version) {
    const first = page.data === null;
    page.data = data;
    page.version = version;
    if (!first) Object.entries(data.sections).forEach(([name, html]) => replaceSection(name, html));
    page.parts.forEach((part) => part(data));
    chooseBase();
    if (data.live) setTimeout(askForVersion, 5000);
  };

  /* A new section in place of the old one; opened details, the chosen base and the focus stay. */
  function replaceSection(name, html) {
    const place = document.querySelector(`[data-section="${name}"]`);
    if (place.dataset.html === html) return;
    place.dataset.html = html;
    const open = [...place.querySelectorAll('details[open]')].map((details) => details.id);
    const base = page.byId('base') && page.byId('base').value;
    const focused = place.contains(document.activeElement) ? document.activeElement.id : '';
    place.innerHTML = html;  // made by Jinja2, which escapes every name and value
    open.forEach((id) => { if (page.byId(id)) page.byId(id).open = true; });
    if (base && page.byId('base') && [...page.byId('base').options].some((option) => option.value === base)) {
      page.byId('base').value = base;
    }
    if (focused && page.byId(focused)) page.byId(focused).focus();
  }

  /* Ask for data/version.js, and for the data if they are others. */
  function askForVersion() {
    load('data/version.js', () => setTimeout(askForVersion, 5000));
  }
  window.receiveVersion = function (version) {
    if (version !== page.version) load('data/data.js', () => setTimeout(askForVersion, 5000));
    else if (page.data.live) setTimeout(askForVersion, 5000);
  };
  function load(file, failed) {
    const script = page.make('script', {src: `${file}?${Date.now()}`, onload: () => script.remove()});
    script.onerror = () => { script.remove(); failed(); };
    document.body.append(script);
  }

  function chooseBase() {
    const base = page.byId('base');
    if (base) document.querySelectorAll('[data-base]').forEach((one) => { one.hidden = one.dataset.base !== base.value; });
  }
  document.addEventListener('change', (event) => { if (event.target.id === 'base') chooseBase(); });
  document.addEventListener('submit', (event) => event.preventDefault());
  document.addEventListener('click', (event) => {
    if (!event.target.classList.contains('copy')) return;
    const range = document.createRange();
    range.selectNodeContents(event.target.parentElement.querySelector('.command'));
    getSelection().removeAllRanges();
    getSelection().addRange(range);
    event.target.textContent = document.execCommand('copy') ? 'Copied' : 'Selected: press Ctrl+C';
  });

  const theme = page.byId('theme');
  let stored = null;
  try { stored = localStorage.getItem('wfvae-report-theme'); } catch (error) { /* storage is switched off */ }
  if (['light', 'dark'].includes(stored)) theme.value = stored;
  function applyTheme() {
    document.documentElement.style.colorScheme = theme.value;
    if (page.data) page.parts.forEach((part) => part(page.data));
  }
  theme.addEventListener('change', () => {
    try { localStorage.setItem('wfvae-report-theme', theme.value); } catch (error) { /* as above */ }
    applyTheme();
  });
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', applyTheme);
  applyTheme();
})();
