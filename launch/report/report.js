// Shows values under the pointer, or at the cursor that the arrow keys move, in the legend of a plot. Those at the
// cursor appear in its output too, which screen readers speak. They are read off the curves themselves: data-x and
// data-y of a plot are "low high logarithmic unit" of its axes.
'use strict';
(() => {
  const UNITS = 10000;
  const COUNTS = [[1e12, ' T'], [1e9, ' B'], [1e6, ' M'], [1e3, ' k'], [0, '']];
  const TIMES = [[86400, ' d'], [3600, ' h'], [60, ' min'], [1, ' s'], [0.001, ' ms']];

  // As ValueText of axis.h writes them.
  const digits = (value) => {
    const size = Math.abs(value);
    if (size >= 1e6 || (size < 1e-4 && size > 0)) return value.toExponential(3);
    if (Number.isInteger(value)) return String(value);
    return value.toFixed(Math.max(0, 3 - Math.floor(Math.log10(size))));
  };
  const scaled = (value, table) => {
    const [size, name] = table.find(([least]) => Math.abs(value) >= least) || table[table.length - 1];
    return digits(value / (size || 1)) + name;
  };
  const text = (value, unit) => {
    if (unit === 'count') return scaled(value, COUNTS);
    if (unit === 'seconds') return scaled(value, TIMES);
    return unit === 'percent' ? digits(100 * value) + ' %' : digits(value);
  };

  const axis = (attribute) => {
    const [low, high, logarithmic, unit] = attribute.split(' ');
    const from = Number(low), to = Number(high);
    return (place) => text(logarithmic === '1' ? from * (to / from) ** place : from + place * (to - from), unit);
  };
  const pointsOf = (path) => path.getAttribute('d').slice(1).split('L').map((point) => point.split(' ').map(Number));
  // The points are in ascending order.
  const nearest = (points, x) => {
    let low = 0, high = points.length - 1;
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (points[middle][0] <= x) low = middle; else high = middle;
    }
    return x - points[low][0] <= points[high][0] - x ? points[low] : points[high];
  };

  for (const figure of document.querySelectorAll('figure')) {
    const plot = figure.querySelector('svg.plot');
    if (!plot) continue;
    const xText = axis(plot.dataset.x), yText = axis(plot.dataset.y);
    const output = figure.querySelector('.x-title output');
    const values = [...figure.querySelectorAll('.legend b')];
    const names = [...figure.querySelectorAll('.legend bdi')].map((name) => name.textContent);
    const last = values.map((value) => value.textContent);
    let curves = null, place = 1;

    const cursor = plot.querySelector('.cursor');
    plot.setAttribute('tabindex', '0');

    const show = (at, spoken) => {
      // Legends list the curves in the order in which they are drawn, but those behind. Bars of intervals are no curves.
      curves = curves || [...plot.querySelectorAll('.curves path:not(.back):not(.bars)')].map(pointsOf);
      place = Math.min(Math.max(at, 0), 1);
      const x = place * UNITS;
      cursor.setAttribute('x1', 100 * place + '%');
      cursor.setAttribute('x2', 100 * place + '%');
      cursor.style.visibility = 'visible';
      output.textContent = xText(place);
      curves.forEach((points, i) => {
        const beyond = x < points[0][0] - UNITS / 50 || x > points[points.length - 1][0] + UNITS / 50;
        values[i].textContent = beyond ? '–' : yText(1 - nearest(points, x)[1] / UNITS);
      });
      if (spoken) output.textContent += ': ' + names.map((name, i) => name + ' ' + values[i].textContent).join(', ');
    };
    const hide = () => {
      cursor.style.visibility = 'hidden';
      output.textContent = '';
      values.forEach((value, i) => { value.textContent = last[i]; });
    };
    const follow = (event) => {
      const frame = plot.getBoundingClientRect();
      show((event.clientX - frame.left) / frame.width);
    };
    plot.addEventListener('pointermove', follow);
    plot.addEventListener('pointerdown', follow);
    plot.addEventListener('pointerleave', hide);
    plot.addEventListener('focus', () => { if (plot.matches(':focus-visible')) show(place, true); });
    plot.addEventListener('blur', hide);
    plot.addEventListener('keydown', (event) => {
      const to = {ArrowLeft: place - 0.01, ArrowRight: place + 0.01, Home: 0, End: 1}[event.key];
      if (to === undefined) return;
      event.preventDefault();
      show(to, true);
    });
  }
})();
