// Times: moments in the visitor's own time zone, and the time that has passed since them.

const Times = (() => {
    'use strict';

    const STEPS = [
        [60, 1, 's'],
        [3600, 60, ' min'],
        [86400, 3600, ' h'],
        [Infinity, 86400, ' d'],
    ];

    // The browser's clock may be wrong; OpCenter's own is what moments are relative to.
    let ahead = 0;

    function seconds(moment) {
        return Math.max(0, (Date.now() - ahead - moment) / 1000);
    }

    function ago(moment) {
        const passed = seconds(moment);
        if (passed < 5) return 'just now';
        const [, unit, name] = STEPS.find(([limit]) => passed < limit);
        return `${Math.floor(passed / unit)}${name} ago`;
    }

    // As the command line writes a duration: 1h2m3s.
    function since(moment) {
        const passed = Math.floor(seconds(moment));
        const [hours, minutes] = [Math.floor(passed / 3600), Math.floor(passed / 60) % 60];
        const rest = `${passed % 60}s`;
        if (hours > 0) return `${hours}h${minutes}m${rest}`;
        return minutes > 0 ? `${minutes}m${rest}` : rest;
    }

    function local(moment) {
        const two = value => String(value).padStart(2, '0');
        const day = `${moment.getFullYear()}-${two(moment.getMonth() + 1)}-${two(moment.getDate())}`;
        return `${day} ${two(moment.getHours())}:${two(moment.getMinutes())}:${two(moment.getSeconds())}`;
    }

    function show(root = document) {
        for (const element of root.querySelectorAll('time[data-time]')) {
            const moment = new Date(element.dateTime);
            const kind = element.dataset.time;
            const text =
                kind === 'ago' ? ago(moment) : kind === 'since' ? since(moment) : local(moment);
            if (element.textContent !== text) element.textContent = text;
            element.title = local(moment);
        }
    }

    function set(header) {
        const server = Date.parse(header);
        if (!Number.isNaN(server)) ahead = Date.now() - server;
    }

    setInterval(show, 1000);
    document.addEventListener('DOMContentLoaded', () => show());
    return {show, local, set};
})();
