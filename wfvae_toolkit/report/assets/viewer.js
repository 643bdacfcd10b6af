/* One picture: two layers under a divider, zoomed and moved in step. */
(function () {
  'use strict';
  const {make, byId, fill, number, table} = page;
  const dialog = byId('viewer'), slider = byId('slider'), left = byId('viewer-left'), right = byId('viewer-right');
  const images = [byId('layer-left'), byId('layer-right')];
  const PIXEL = 40;  // CSS px of an image's pixel at the strongest zoom
  let picture = null, fit = 1, scale = 1;

  const zoom = Panzoom(images[1], {
    noBind: true, contain: 'outside', minScale: 1, maxScale: PIXEL, animate: false, cursor: 'default', step: 0.5,
    setTransform: (element, state) => {
      scale = state.scale;
      images.forEach((image) => { image.style.transform = `scale(${state.scale}) translate(${state.x}px, ${state.y}px)`; });
      showZoom();
    }});

  /* code of a layer -> {file, text, scale}, of all layers that the picture has. */
  function layersOf(one) {
    const {labels} = page.data, layers = new Map(), originals = new Map();
    Object.entries(one.runs).forEach(([entry, run]) => {
      if (!originals.has(run.original)) originals.set(run.original, entry);
    });
    originals.forEach((entry, file) => layers.set(`o${originals.size > 1 ? entry : ''}`,
      {file, text: originals.size > 1 ? `original of ${labels[entry]}` : 'original'}));
    Object.entries(one.runs).forEach(([entry, run]) => layers.set(`r${entry}`, {file: run.reconstruction, text: `reconstruction by ${labels[entry]}`}));
    Object.entries(one.runs).forEach(([entry, run]) => layers.set(`e${entry}`, {file: run.error, text: `error of ${labels[entry]}`, scale: 'error'}));
    Object.entries(one.differences).forEach(([pair, file]) => {
      const [first, second] = pair.split('-').map((entry) => labels[entry]);
      layers.set(`d${pair}`, {file, text: `error of ${second} less that of ${first}`, scale: 'difference', first, second});
    });
    return layers;
  }

  page.view = function (path, run) {
    const opened = !dialog.open;
    picture = page.data.pictures.find((one) => one.path === path);
    const layers = layersOf(picture);
    const options = [...layers].map(([code, layer]) => [code, layer.text]);
    const entries = (run || '').split('-').filter((entry) => entry in picture.runs);
    if (opened) { left.replaceChildren(); right.replaceChildren(); }
    fill(left, options, entries.length > 1 ? `r${entries[0]}` : [...layers.keys()][0]);
    fill(right, options, `r${entries.length ? entries[entries.length - 1] : Object.keys(picture.runs)[0]}`);
    byId('viewer-title').textContent = path;
    const place = page.order.indexOf(picture);
    byId('viewer-previous').disabled = place <= 0;
    byId('viewer-next').disabled = place < 0 || place === page.order.length - 1;
    if (opened) dialog.showModal();
    showLayers();
    size();
    zoom.reset({animate: false});
    slider.handle = false;
    showScores();
    if (opened) slider.focus();
  };

  function showLayers() {
    const layers = layersOf(picture), kinds = new Map();
    [left, right].forEach((select, side) => {
      const layer = layers.get(select.value);
      if (images[side].getAttribute('src') !== layer.file) images[side].src = layer.file;
      images[side].alt = `${layer.text}: ${picture.path}`;
      if (layer.scale) kinds.set(layer.text, layer);
    });
    slider.setAttribute('aria-label', `Divider: ${layers.get(left.value).text} left, ${layers.get(right.value).text} right`);
    byId('viewer-scales').replaceChildren(...[...kinds.values()].map(legend));
  }

  function legend(layer) {
    const {low, high, colours} = page.data.scales[layer.scale];
    const gradient = make('span', {className: 'gradient', style: `background: linear-gradient(to right, ${colours.join(', ')})`});
    const [from, to] = layer.scale === 'error' ? [`${low}`, `${high} and more levels of 255`]
      : [`${layer.second} is nearer to the original by ${-low} levels of 255 or more`, `${layer.first} is, by ${high} or more`];
    return make('div', {className: 'scale'}, ...[`${layer.text}:`, from, gradient, to].map((part) => part === gradient ? part : make('span', {}, part)));
  }

  function showScores() {
    const {labels, metrics, scores} = page.data, found = scores[picture.path] || {};
    const entries = labels.map((label, entry) => entry).filter((entry) => entry in found || entry in picture.runs);
    byId('viewer-scores').replaceChildren(table(`Scores of this picture, ${shown().width} x ${shown().height} px; rank 1 is the worst`,
      ['metric', ...entries.map((entry) => labels[entry])],
      metrics.map((metric, place) => [metric.title ? `${metric.name}, ${metric.title}` : metric.name,
        ...entries.map((entry) => number(found[entry] && found[entry][place]) + rank(entry, place))])));
  }

  /* ', rank 3 of 500': how many images of a run are worse, and one more; of a metric that has a direction. */
  function rank(entry, place) {
    const {metrics, scores} = page.data, {better} = metrics[place];
    const key = (value) => Number.isNaN(value) ? -Infinity : better ? value : -value;
    const values = Object.values(scores).map((one) => one[entry] && one[entry][place]).filter((value) => value !== undefined && value !== null);
    const own = scores[picture.path] && scores[picture.path][entry] && scores[picture.path][entry][place];
    if (better === null || own === undefined || own === null) return '';
    return `, rank ${1 + values.filter((value) => key(value) < key(own)).length} of ${values.length}`;
  }

  const shown = () => Object.values(picture.runs)[0];

  /* The largest whole multiple that fits, or the whole picture shrunk. */
  function size() {
    const {width, height} = shown();
    const room = Math.min(byId('stage').clientWidth / width, Math.max(innerHeight * 0.62, 200) / height);
    fit = room >= 1 ? Math.floor(room) : room;
    slider.style.setProperty('--width', `${width * fit}px`);
    slider.style.setProperty('--ratio', `${width} / ${height}`);
    zoom.setOptions({maxScale: Math.max(PIXEL / fit, 1)});
    showZoom();
  }

  function showZoom() {
    if (!picture) return;
    const shownScale = fit * scale * devicePixelRatio;
    byId('zoom-value').textContent = `${Math.round(shownScale * 100)} %`;
    byId('zoom-one').disabled = fit * devicePixelRatio > 1;
    document.querySelectorAll('.layer').forEach((layer) => layer.classList.toggle('pixels', shownScale >= 2));
    slider.handle = scale > 1.001;
  }
  const zoomTo = (wanted) => { zoom.zoom(Math.max(1, wanted), {animate: false}); if (scale <= 1.001) zoom.reset({animate: false}); };
  const step = (direction) => zoomTo(scale * (direction > 0 ? 1.5 : 1 / 1.5));
  const one = () => zoomTo(1 / (fit * devicePixelRatio));
  const fitAll = () => zoom.reset({animate: false});
  const turn = (by) => {
    const next = page.order[page.order.indexOf(picture) + by];
    if (next) page.view(next.path);
  };

  byId('zoom-in').addEventListener('click', () => step(1));
  byId('zoom-out').addEventListener('click', () => step(-1));
  byId('zoom-fit').addEventListener('click', fitAll);
  byId('zoom-one').addEventListener('click', one);
  byId('viewer-previous').addEventListener('click', () => turn(-1));
  byId('viewer-next').addEventListener('click', () => turn(1));
  byId('viewer-close').addEventListener('click', () => dialog.close());
  [left, right].forEach((select) => select.addEventListener('input', showLayers));
  addEventListener('resize', () => { if (dialog.open) { size(); fitAll(); } });

  slider.addEventListener('slide', () => slider.setAttribute('aria-valuenow', String(Math.round(slider.value))));
  slider.addEventListener('wheel', (event) => { event.preventDefault(); zoom.zoomWithWheel(event); if (scale <= 1.001) fitAll(); }, {passive: false});
  slider.addEventListener('pointerdown', (event) => {
    const box = slider.getBoundingClientRect();
    const grip = Math.hypot(event.clientX - box.left - box.width * slider.value / 100, event.clientY - box.top - box.height / 2) < 30;
    // A pointer that panzoom takes gives no mouse event, which the divider needs where there is nothing to move.
    if (!grip && (scale > 1.001 || event.pointerType === 'touch')) zoom.handleDown(event);
  });
  document.addEventListener('pointermove', (event) => zoom.handleMove(event));
  ['pointerup', 'pointercancel'].forEach((kind) => document.addEventListener(kind, (event) => zoom.handleUp(event)));

  /* Before the divider's own keys: with Shift an arrow moves the picture. */
  dialog.addEventListener('keydown', (event) => {
    if (event.target.matches('select, input')) return;
    const moves = {ArrowLeft: [1, 0], ArrowRight: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1]};
    const keys = {'+': () => step(1), '=': () => step(1), '-': () => step(-1), 0: fitAll, 1: one, PageUp: () => turn(-1), PageDown: () => turn(1)};
    if (event.target === slider) Object.assign(keys, {Home: () => divide(0), End: () => divide(100)});
    if (event.shiftKey && event.key in moves) {
      const [x, y] = moves[event.key];
      zoom.pan(x * 60 / scale, y * 60 / scale, {relative: true, animate: false});
    } else if (event.key in keys && !event.ctrlKey && !event.metaKey && !event.altKey) keys[event.key]();
    else return;
    event.preventDefault();
    event.stopPropagation();
  }, true);
  function divide(value) {
    slider.value = value;
    slider.setAttribute('aria-valuenow', String(value));
  }

  /* New data while a picture is open: it stays, at its zoom. */
  page.parts.push((data) => {
    if (!dialog.open) return;
    const still = data.pictures.find((other) => other.path === picture.path);
    if (!still) { dialog.close(); return; }
    picture = still;
    const options = [...layersOf(picture)].map(([code, layer]) => [code, layer.text]);
    [left, right].forEach((select) => fill(select, options));
    showLayers();
    showScores();
  });
})();
