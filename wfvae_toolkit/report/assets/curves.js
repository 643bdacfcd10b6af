/* Curves of all runs: one panel a value, zoomed together. */
(function () {
  'use strict';
  const {make, byId, number} = page;
  const x = byId('curves-x'), smooth = byId('curves-smooth'), log = byId('curves-log');
  const FIRST = /^(train\/(loss|per_pixel\/.*|kl|discriminator|learning_rate\/.*|gradient_norm\/.*)|val\/[^/]*)$/;
  const DASHES = [[], [8, 4], [2, 3], [10, 3, 2, 3]];
  const charts = new Map();  // name -> {figure, plot, uplot}
  let chosen = null, range = null, syncing = false;

  const watcher = new IntersectionObserver((seen) => seen.forEach((one) => {
    if (one.isIntersecting) draw(one.target.dataset.name);
  }), {rootMargin: '300px'});
  const resized = new ResizeObserver((seen) => seen.forEach(({target}) => {
    const chart = charts.get(target.parentElement.dataset.name);
    if (chart && chart.uplot) chart.uplot.setSize({width: target.clientWidth, height: 240});
  }));

  function setUp(data) {
    const drawn = data.curves.map((one, entry) => entry).filter((entry) => data.curves[entry]);
    const names = [...new Set(drawn.flatMap((entry) => Object.entries(data.curves[entry].phases)
      .flatMap(([phase, columns]) => Object.keys(columns.values).map((name) => `${phase}/${name}`))))];
    byId('curves-controls').hidden = byId('curves-choice').hidden = !names.length;
    document.querySelector('#curves .hint').hidden = !names.length;
    const merged = drawn.some((entry) => Object.values(data.curves[entry].phases).some((columns) => columns.merged > 1));
    byId('curves-note').textContent = !names.length ? 'No run has a log yet: log.jsonl is not there, or holds no row.'
      : merged ? 'Long logs are shortened: neighbouring rows are drawn as their lowest and highest value.' : '';
    legend(data, drawn);
    choice(names);
    show();
  }

  function legend(data, drawn) {
    byId('curves-legend').replaceChildren(...drawn.map((entry) => {
      const line = document.createElementNS('http://www.w3.org/2000/svg', 'svg');
      line.setAttribute('width', '36');
      line.setAttribute('height', '10');
      line.setAttribute('aria-hidden', 'true');
      const path = document.createElementNS('http://www.w3.org/2000/svg', 'path');
      Object.entries({d: 'M0 5H36', stroke: page.colour(entry), 'stroke-width': '3', 'stroke-dasharray': DASHES[(entry >> 3) % 4].join(' ')})
        .forEach(([name, value]) => path.setAttribute(name, value));
      line.append(path);
      const start = data.curves[entry].discriminator;
      return make('li', {}, line, data.labels[entry] + (start === null ? '' : start > 0 ? `, discriminator from iteration ${start}` : ', discriminator from the start'));
    }));
  }

  function choice(names) {
    if (chosen === null) chosen = new Set(names.filter((name) => FIRST.test(name)));
    if (!chosen.size) names.slice(0, 6).forEach((name) => chosen.add(name));
    const field = byId('curves-names');
    if (field.dataset.names === names.join()) return;
    field.dataset.names = names.join();
    field.replaceChildren(make('legend', {}, 'Values to draw'), ...names.map((name) => {
      const box = make('input', {type: 'checkbox', checked: chosen.has(name)});
      box.addEventListener('input', () => { if (box.checked) chosen.add(name); else chosen.delete(name); show(); });
      return make('label', {}, box, ` ${name}`);
    }));
    page.names = names;
  }

  function show() {
    const wanted = (page.names || []).filter((name) => chosen.has(name));
    charts.forEach((chart, name) => {
      if (chart.uplot) { chart.uplot.destroy(); chart.uplot = null; }
      if (!wanted.includes(name)) { watcher.unobserve(chart.figure); resized.unobserve(chart.plot); chart.figure.remove(); charts.delete(name); }
    });
    wanted.forEach((name, place) => {
      if (!charts.has(name)) {
        const plot = make('div', {className: 'plot', tabIndex: 0, role: 'group'});
        plot.addEventListener('keydown', (event) => keys(event, name));
        const figure = make('figure', {className: 'chart'}, make('h3', {}, name), plot);
        figure.dataset.name = name;
        charts.set(name, {figure, plot, uplot: null});
        resized.observe(plot);
      }
      const {figure} = charts.get(name);
      if (byId('charts').children[place] !== figure) byId('charts').insertBefore(figure, byId('charts').children[place] || null);
      watcher.unobserve(figure);
      watcher.observe(figure);
    });
  }

  /* Series of a value: entry, positions, values, smoothed values. */
  function seriesOf(name) {
    const at = name.indexOf('/'), phase = name.slice(0, at), value = name.slice(at + 1);
    return page.data.curves.flatMap((one, entry) => {
      const columns = one && one.phases[phase];
      if (!columns || !columns.values[value]) return [];
      const drawable = columns.values[value].map((y) => y === null || (log.checked && y <= 0) ? null : y);
      return [{entry, x: columns[x.value], y: drawable, smooth: smoothed(drawable),
        left: columns.values[value].filter((y) => y !== null && log.checked && y <= 0).length}];
    });
  }

  /* Exponential mean, with the bias of its start divided out. */
  function smoothed(values) {
    const keep = Number(smooth.value);
    let mean = 0, weight = 0;
    return values.map((value) => {
      if (value === null) return null;
      mean = keep * mean + (1 - keep) * value;
      weight = keep * weight + (1 - keep);
      return mean / weight;
    });
  }

  function draw(name) {
    const chart = charts.get(name);
    if (!chart || chart.uplot) return;
    const series = seriesOf(name), both = Number(smooth.value) > 0, few = series.every((one) => one.x.length < 60);
    const tables = series.flatMap((one) => both ? [[one.x, one.y], [one.x, one.smooth]] : [[one.x, one.y]]);
    const label = (one) => page.data.labels[one.entry];
    const line = (one, raw) => ({
      label: both ? `${label(one)}, ${raw ? 'raw' : 'smoothed'}` : label(one), stroke: faint(page.colour(one.entry), both && raw),
      width: both && raw ? 1 : 2, dash: DASHES[(one.entry >> 3) % 4], points: {show: few && raw, size: 5},
      value: (u, value) => value === null || value === undefined ? '' : number(value)});
    const axis = {stroke: page.css('--text'), grid: {stroke: page.css('--line'), width: 1}, ticks: {stroke: page.css('--line')}};
    chart.plot.replaceChildren();
    chart.uplot = new uPlot({
      width: chart.plot.clientWidth, height: 240,
      scales: {x: {time: false, range: (u, low, high) => low === high ? [low - 1, high + 1] : [low, high]},
        y: {distr: log.checked ? 3 : 1, ...(log.checked ? {} : {range: padded})}},
      series: [{label: x.value === 'hours' ? 'hours' : 'iteration', value: (u, value) => value === null ? '' : x.value === 'hours' ? value.toFixed(3) : String(value)},
        ...series.flatMap((one) => both ? [line(one, true), line(one, false)] : [line(one, true)])],
      axes: [axis, {...axis, size: 64, values: (u, ticks) => ticks.map((tick) => tick === null ? '' : brief(tick))}],
      cursor: {drag: {x: true, y: false}, sync: {key: 'curves'}},
      hooks: {setScale: [(u, key) => { if (key === 'x') zoomed(u, name); }], draw: [(u) => marks(u, series)]},
    }, uPlot.join(tables), chart.plot);
    chart.plot.setAttribute('aria-label', described(name, series));
    chart.figure.querySelector('h3').textContent = name + (series.some((one) => one.left) ? ' (values of 0 and below are not on a log scale)' : '');
    if (range) chart.uplot.setScale('x', {min: range[0], max: range[1]});
  }

  /* Of one value, or of equal ones, an axis that can be read. */
  function padded(u, low, high) {
    if (low === null) return [0, 1];
    const room = high > low ? 0.05 * (high - low) : Math.abs(low) * 0.05 || 1;
    return [low - room, high + room];
  }
  const brief = (tick) => tick !== 0 && (Math.abs(tick) >= 1e5 || Math.abs(tick) < 1e-3) ? tick.toExponential(1) : String(Number(tick.toPrecision(6)));
  const faint = (colour, raw) => raw ? colour.replace('rgb(', 'rgba(').replace(')', ', 0.35)') : colour;

  function described(name, series) {
    return `${name}. ` + series.map((one) => {
      const values = one.y.filter((y) => y !== null);
      if (!values.length) return `${page.data.labels[one.entry]}: no value`;
      return `${page.data.labels[one.entry]}: last ${number(values[values.length - 1])}, lowest ${number(values.reduce((a, b) => Math.min(a, b)))}, highest ${number(values.reduce((a, b) => Math.max(a, b)))}`;
    }).join('; ');
  }

  /* A dashed line where a run's discriminator starts. */
  function marks(u, series) {
    series.forEach((one) => {
      const start = page.data.curves[one.entry].discriminator;
      if (start === null || start <= 0) return;
      const position = x.value === 'iteration' ? start : hoursAt(one.entry, start);
      if (position === null || position < u.scales.x.min || position > u.scales.x.max) return;
      const at = u.valToPos(position, 'x', true);
      u.ctx.save();
      u.ctx.strokeStyle = u.ctx.fillStyle = page.colour(one.entry);
      u.ctx.setLineDash([4 * devicePixelRatio, 4 * devicePixelRatio]);
      u.ctx.beginPath();
      u.ctx.moveTo(at, u.bbox.top);
      u.ctx.lineTo(at, u.bbox.top + u.bbox.height);
      u.ctx.stroke();
      u.ctx.font = `${11 * devicePixelRatio}px system-ui, sans-serif`;
      const right = at > u.bbox.left + u.bbox.width / 2;
      u.ctx.textAlign = right ? 'right' : 'left';
      u.ctx.fillText('discriminator starts', at + (right ? -4 : 4) * devicePixelRatio, u.bbox.top + 12 * devicePixelRatio);
      u.ctx.restore();
    });
  }
  function hoursAt(entry, iteration) {
    const train = page.data.curves[entry].phases.train;
    if (!train) return null;
    const after = train.iteration.findIndex((one) => one >= iteration);
    if (after < 0) return null;
    const [from, hours] = after ? [train.iteration[after - 1], train.hours[after - 1]] : [0, 0];
    return hours + (train.hours[after] - hours) * (iteration - from) / ((train.iteration[after] - from) || 1);
  }

  function zoomed(u, name) {
    if (syncing) return;
    const {min, max} = u.scales.x;
    const xs = u.data[0];
    const whole = min <= xs[0] && max >= xs[xs.length - 1];
    if (whole && range === null) return;
    setRange(whole ? null : [min, max], name);
  }
  function setRange(wanted, except) {
    range = wanted;
    syncing = true;
    charts.forEach((chart, name) => {
      if (!chart.uplot || name === except) return;
      const xs = chart.uplot.data[0];
      if (xs.length) chart.uplot.setScale('x', wanted ? {min: wanted[0], max: wanted[1]} : {min: xs[0], max: xs[xs.length - 1]});
    });
    // uPlot sets scales in a microtask.
    queueMicrotask(() => setTimeout(() => { syncing = false; }, 0));
  }
  function keys(event, name) {
    const u = charts.get(name).uplot;
    if (!u || event.ctrlKey || event.metaKey || event.altKey) return;
    const {min, max} = u.scales.x, middle = (min + max) / 2, half = (max - min) / 2;
    const wanted = {'+': [middle - half / 1.5, middle + half / 1.5], '=': [middle - half / 1.5, middle + half / 1.5],
      '-': [middle - half * 1.5, middle + half * 1.5], ArrowLeft: [min - half / 2, max - half / 2],
      ArrowRight: [min + half / 2, max + half / 2], 0: null}[event.key];
    if (wanted === undefined) return;
    event.preventDefault();
    setRange(wanted);
  }

  x.addEventListener('input', () => { range = null; show(); });
  log.addEventListener('input', show);
  smooth.addEventListener('input', () => { byId('curves-smooth-value').textContent = smooth.value === '0' ? 'none' : smooth.value; show(); });
  byId('curves-reset').addEventListener('click', () => setRange(null));
  page.parts.push(setUp);
})();
