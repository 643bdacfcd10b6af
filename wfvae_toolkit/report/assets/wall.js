/* The wall of thumbnails, the table of all scores, and the pictures of a training. */
(function () {
  'use strict';
  const {make, byId, fill, number, table} = page;
  const controls = ['metric', 'run', 'order', 'filter'].map((name) => byId(`wall-${name}`));
  const [metric, run, order, filter] = controls;
  const tiles = new Map();
  let rows = 100;
  page.order = [];  // pictures as they stand, for the viewer

  function setUp(data) {
    const scored = data.labels.map((label, entry) => [entry, label])
      .filter(([entry]) => Object.values(data.scores).some((values) => entry in values));
    fill(metric, data.metrics.map((one, place) => [place, one.title ? `${one.name} (${one.title})` : one.name]));
    const changes = [];
    for (const [first, before] of scored) {
      for (const [second, after] of scored) if (first < second) changes.push([`${first}-${second}`, `change from ${before} to ${after}`]);
    }
    fill(run, [...scored, ...changes]);
    byId('wall-controls').hidden = !scored.length;
    byId('values').hidden = !scored.length;
    draw();
    snapshots(data);
  }

  /* Value of an image under the chosen metric and run, or change between two runs. */
  function valueOf(path, place = Number(metric.value)) {
    const scores = page.data.scores[path] || {};
    const [first, second] = run.value.split('-').map((entry) => scores[entry] && scores[entry][place]);
    if (!run.value.includes('-')) return first;
    const missing = [undefined, null];
    return missing.includes(first) || missing.includes(second) ? undefined : first === second ? 0 : second - first;
  }

  /* Paths in the chosen order; without a value last; NaN is worst. */
  function sorted(paths) {
    const better = page.data.metrics.length ? page.data.metrics[metric.value].better : null;
    const sign = (better ? 1 : -1) * (order.value === 'best' ? -1 : 1);
    const known = (value) => value !== undefined && value !== null;
    const key = (value) => Number.isNaN(value) ? -Infinity : sign * value;
    const names = (a, b) => a < b ? -1 : a > b ? 1 : 0;
    if (order.value === 'name' || !page.data.metrics.length) return paths.sort(names);
    const values = new Map(paths.map((path) => [path, valueOf(path)]));
    return paths.sort((a, b) => {
      const [x, y] = [values.get(a), values.get(b)];
      if (!known(x) || !known(y)) return known(x) ? -1 : known(y) ? 1 : names(a, b);
      return key(x) < key(y) ? -1 : key(x) > key(y) ? 1 : names(a, b);
    });
  }

  function draw() {
    const data = page.data;
    const words = filter.value.toLowerCase();
    const byPath = new Map(data.pictures.map((picture) => [picture.path, picture]));
    const shown = sorted([...byPath.keys()].filter((path) => path.toLowerCase().includes(words)));
    page.order = shown.map((path) => byPath.get(path));
    for (const path of tiles.keys()) if (!byPath.has(path)) { tiles.get(path).remove(); tiles.delete(path); }
    const wall = byId('wall');
    const focused = document.activeElement && document.activeElement.closest('#wall li');
    const wanted = page.order.map((picture) => tile(picture));
    if (wanted.length !== wall.children.length || wanted.some((item, place) => wall.children[place] !== item)) {
      wall.replaceChildren(...wanted);
      if (focused && focused.isConnected) focused.firstChild.focus({preventScroll: true});
    }
    count(data, shown.length);
    drawValues();
  }

  function count(data, shown) {
    const scored = Object.keys(data.scores).length;
    let text = !scored ? 'No run has scores of single images; tools/test.py writes them.'
      : !data.pictures.length ? `${scored} images were scored; no pictures of them are there.`
        : `${shown} of ${data.pictures.length} pictures`;
    if (data.pictures.length && scored > data.pictures.length) {
      text += `; ${scored} images were scored, not all of them have a picture here`;
    }
    byId('wall-count').textContent = text;
  }

  function tile(picture) {
    let item = tiles.get(picture.path);
    if (!item) {
      const button = make('button', {type: 'button', className: 'tile'});
      button.addEventListener('click', () => page.view(picture.path, run.value));
      item = make('li', {}, button);
      tiles.set(picture.path, item);
    }
    const entry = run.value.split('-').pop();
    const layers = picture.runs[entry] || (run.value ? null : Object.values(picture.runs)[0]);
    const value = page.data.metrics.length ? valueOf(picture.path) : undefined;
    const sign = run.value.includes('-') && value > 0 ? '+' : '';
    const text = page.data.metrics.length ? `${page.data.metrics[metric.value].name} ${sign}${number(value)}` : '';
    const key = JSON.stringify([layers && layers.thumbnail, text]);
    if (item.dataset.key !== key) {
      item.dataset.key = key;
      item.firstChild.replaceChildren(
        layers ? make('img', {src: layers.thumbnail, loading: 'lazy', decoding: 'async', alt: `Reconstruction of ${picture.path}`})
          : make('span', {className: 'none'}, 'no picture of this run'),
        make('span', {className: 'name', title: picture.path, ariaHidden: layers ? 'true' : 'false'}, picture.path), make('span', {className: 'value'}, text));
    }
    return item;
  }

  function drawValues() {
    const data = page.data;
    if (!byId('values').open || !data.metrics.length) return;
    const paths = sorted(Object.keys(data.scores).filter((path) => path.toLowerCase().includes(filter.value.toLowerCase())));
    byId('values-table').replaceChildren(table(`${Math.min(rows, paths.length)} of ${paths.length} images, ordered as the wall`,
      ['image', ...data.metrics.map((one) => one.name)],
      paths.slice(0, rows).map((path) => [path, ...data.metrics.map((one, place) => number(valueOf(path, place)))])));
    byId('values-more').hidden = rows >= paths.length;
  }

  /* The slider chooses among the pictures that a run wrote while it trained. */
  function snapshots(data) {
    const having = data.labels.map((label, entry) => [entry, label]).filter(([entry]) => data.snapshots[entry].length);
    byId('snapshots').hidden = !having.length;
    if (!having.length) return;
    const last = byId('snapshot-number').value === byId('snapshot-number').max;
    fill(byId('snapshot-run'), having);
    drawSnapshot(last);
  }
  function drawSnapshot(last) {
    const found = page.data.snapshots[byId('snapshot-run').value];
    const range = byId('snapshot-number');
    range.max = found.length - 1;
    if (last) range.value = range.max;
    const one = found[range.value];
    byId('snapshot-iteration').textContent = String(one.iteration);
    range.setAttribute('aria-valuetext', `iteration ${one.iteration}`);
    const picture = byId('snapshot');
    picture.width = one.width;
    picture.height = one.height;
    picture.loading = 'lazy';
    if (picture.getAttribute('src') !== one.file) picture.src = one.file;
    picture.alt = `Input, reconstruction and error of validation images at iteration ${one.iteration}`;
  }

  controls.forEach((control) => control.addEventListener('input', () => { rows = 100; draw(); }));
  byId('values').addEventListener('toggle', drawValues);
  byId('values-more').addEventListener('click', () => { rows += 200; drawValues(); });
  byId('snapshot-run').addEventListener('input', () => drawSnapshot(true));
  byId('snapshot-number').addEventListener('input', () => drawSnapshot(false));
  page.parts.push(setUp);
})();
