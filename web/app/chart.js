// Charts: values over time, drawn by uPlot from an address of the API and read again while the page
// is open. A chart that is not visible reads nothing.

const Charts = (() => {
    'use strict';

    const HEIGHT = 200;
    const COLOURS = ['--accent', '--busy', '--note', '--bad'];
    const AREAS = {
        Executing: '--good-soft',
        Floating: '--busy-soft',
        Suspended: '--rest-soft',
    };
    const drawn = new Map();

    // A canvas knows neither variables nor `light-dark()`; an element that has the colour does.
    function colour(name) {
        const probe = document.createElement('span');
        probe.style.color = `var(${name})`;
        document.body.append(probe);
        const {color} = getComputedStyle(probe);
        probe.remove();
        return color;
    }

    function amount(value, unit) {
        if (value === null || value === undefined) return '–';
        if (!unit.startsWith('bytes')) return `${Math.round(value * 100) / 100}${unit}`;
        const step = value > 0 ? Math.min(4, Math.floor(Math.log10(value) / 3)) : 0;
        const text = step > 0 ? (value / 1000 ** step).toPrecision(3) : String(Math.round(value));
        return `${text} ${['B', 'kB', 'MB', 'GB', 'TB'][step]}${unit.slice('bytes'.length)}`;
    }

    // Fills the area behind the values in which the job had each status.
    function areas(chart, rows) {
        const {ctx} = chart;
        for (let index = 0; index < rows.length; index += 1) {
            const name = AREAS[rows[index].status];
            if (!name) continue;
            const from = chart.valToPos(Date.parse(rows[index].time) / 1000, 'x', true);
            const next = rows[index + 1];
            const to = next
                ? chart.valToPos(Date.parse(next.time) / 1000, 'x', true)
                : chart.bbox.left + chart.bbox.width;
            ctx.fillStyle = colour(name);
            ctx.fillRect(from, chart.bbox.top, Math.max(1, to - from), chart.bbox.height);
        }
    }

    function options(element, series, state) {
        const {unit} = element.dataset;
        const axis = {
            stroke: colour('--soft'),
            grid: {stroke: colour('--line'), width: 1},
            ticks: {show: false},
        };
        return {
            width: Math.max(200, element.clientWidth),
            height: HEIGHT,
            cursor: {drag: {x: true, y: false}},
            scales: {
                y: {
                    range: (_, low, high) => [
                        Math.min(0, low ?? 0),
                        (high ?? 0) > 0 ? high * 1.1 : 1,
                    ],
                },
            },
            axes: [
                {...axis, space: 70, values: moments},
                {
                    ...axis,
                    size: 72,
                    values: (_, values) => values.map(value => amount(value, unit)),
                },
            ],
            series: [
                {value: (_, value) => (value === null ? '–' : Times.local(new Date(value * 1000)))},
                ...series.map(([, label], index) => ({
                    label,
                    stroke: colour(COLOURS[index % COLOURS.length]),
                    width: 1.6,
                    points: {show: false},
                    value: (_, value) => amount(value, unit),
                })),
            ],
            hooks: {drawClear: [chart => 'areas' in element.dataset && areas(chart, state.rows)]},
        };
    }

    // Moments along a chart, as precise as the seconds between them ask for.
    function moments(_chart, seconds, _axis, _space, step) {
        return seconds.map(at => {
            const text = Times.local(new Date(at * 1000));
            if (step >= 86400) return text.slice(5, 10);
            return step >= 60 ? text.slice(11, 16) : text.slice(11);
        });
    }

    async function read(element) {
        const answer = await fetch(element.dataset.chart, {headers: {Accept: 'application/json'}});
        if (!answer.ok) return;
        const rows = await answer.json();
        const series = element.dataset.series.split(',').map(pair => pair.split(':'));
        const data = [
            rows.map(row => Date.parse(row.time) / 1000),
            ...series.map(([key]) => rows.map(row => row[key] ?? null)),
        ];
        let state = drawn.get(element);
        if (state) {
            state.rows = rows;
            state.chart.setData(data, state.chart.scales.x.min === undefined || !state.zoomed);
            return;
        }
        state = {rows, zoomed: false};
        const chart = new uPlot(options(element, series, state), data, element);
        state.chart = chart;
        chart.over.addEventListener('mouseup', () => {
            state.zoomed = chart.select.width > 0 || state.zoomed;
        });
        chart.over.addEventListener('dblclick', () => {
            state.zoomed = false;
        });
        drawn.set(element, state);
    }

    async function update(element) {
        if (!element.isConnected) return;
        const every = Number(element.dataset.every) * 1000;
        if (document.visibilityState === 'visible' && element.clientWidth > 0) {
            await read(element).catch(() => {});
        }
        setTimeout(update, every, element);
    }

    function show(root = document) {
        for (const [element, state] of drawn) {
            if (element.isConnected) continue;
            state.chart.destroy();
            drawn.delete(element);
        }
        for (const element of root.querySelectorAll('[data-chart]:not([data-drawn])')) {
            element.dataset.drawn = '';
            update(element);
        }
    }

    // Colours come from the style sheet, so a change of theme draws every chart again.
    function redraw() {
        for (const [element, state] of drawn) {
            state.chart.destroy();
            drawn.delete(element);
            read(element).catch(() => {});
        }
    }

    addEventListener('resize', () => {
        for (const [element, {chart}] of drawn) {
            chart.setSize({width: Math.max(200, element.clientWidth), height: HEIGHT});
        }
    });
    document.addEventListener('DOMContentLoaded', () => show());
    return {show, redraw};
})();
