/* Channel maps of one picture, of each run; a run's file holds its channels one below another. */
(function () {
  'use strict';
  const {make, byId, fill} = page;
  const choice = byId('maps-picture');

  function setUp(data) {
    const paths = [...new Set(data.channels.flatMap((maps) => Object.keys(maps)))];
    byId('maps').hidden = !paths.length;
    fill(choice, paths.map((path) => [path, path]));
    if (paths.length) draw();
  }

  function draw() {
    const {channels, labels, pictures} = page.data, path = choice.value;
    const picture = pictures.find((one) => one.path === path);
    const original = picture && Object.values(picture.runs)[0];
    byId('maps-runs').replaceChildren(
      ...(original ? [figure('Original', make('img', {src: original.original, alt: `Original of ${path}`, loading: 'lazy',
        width: original.width, height: original.height, className: 'maps-original'}))] : []),
      ...labels.flatMap((label, entry) => channels[entry][path] ? [ofRun(label, channels[entry][path])] : []));
  }

  const figure = (title, ...parts) => make('figure', {}, make('h3', {}, title), ...parts);

  function ofRun(label, maps) {
    const {file, width, height, shown, of} = maps;
    const list = make('ul', {className: 'maps'}, ...Array.from({length: shown}, (_, channel) => make('li', {},
      make('span', {role: 'img', ariaLabel: `Channel ${channel} of ${label}`, className: 'map', style:
        `aspect-ratio: ${width} / ${height}; background: url(${file}) 0 ${shown > 1 ? 100 * channel / (shown - 1) : 0}% / 100% ${100 * shown}%`}),
      String(channel))));
    return figure(`${label}, ${shown === of ? '' : `${shown} of `}${of} channels of ${width} x ${height}${shown === of ? '' : ' as drawn'}`, list);
  }

  choice.addEventListener('input', draw);
  page.parts.push(setUp);
})();
