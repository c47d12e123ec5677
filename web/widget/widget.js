/*
 * The widget in the page of a job: what the job is doing, an alert while the page can't respond, and the way to its panel.
 *
 *   gateway ── state: WebSocket ──► this script ──► pill, alert
 *                                        │ ▲
 *                  state, kept session   ▼ │  ready, session, size, close
 *                                      panel: a frame without an origin, served by the gateway
 *
 * The page is somebody else's program, and both sides are kept out of each other's way:
 *  - All that is drawn is in one shadow tree below the root element, where pages don't clear up; it is put back if one does. No style of
 *    the page reaches it, and none of its own leaves it. It needs nothing that a Content Security Policy or Trusted Types forbid: styles
 *    by CSSOM, elements one by one, no text that is parsed.
 *  - The shadow tree is open. A closed one would hide the widget from people's tools (accessibility checkers, extensions, browsers that
 *    are driven) and protect nothing: what must be kept from the page, the password, is typed in the panel's frame, which the page can't read.
 *  - The page has the session for this one job (in `sessionStorage`, so that a reload keeps it); the gateway sees to it that it is
 *    good for nothing else.
 *  - Nothing here throws into the page, takes the focus unasked, or stands between the page and its user: what is below the alert can be
 *    clicked through it. Keys that are pressed in the widget are not passed on as shortcuts of the page.
 */
(() => {
    'use strict';

    const HOST = 'mooring-widget';
    const STATE_PATH = '/.mooring/state';
    const PANEL_PATH = '/.mooring/panel';
    const PLACE_KEY = 'mooring.widget';
    const SESSION_KEY = 'mooring.session.';
    /* Times in milliseconds, lengths in CSS pixels. */
    const RETRY = {first: 500, longest: 10_000};
    const LOST_AFTER = 3_000;
    const ALERT_AT_LEAST = 1_000;
    const BACK_FOR = 2_000;
    const LOOK_AGAIN = 2_000;
    const PUT_BACK_AT_MOST = 20;
    const DRAG_FROM = 4;
    const STEP = 16;
    const GAP = 6;
    const PANEL_AT_LEAST = 280;
    const BORDER = 1;

    const STYLE = `
        :host { all: initial !important; position: fixed !important; inset: 0 !important; z-index: 2147483647 !important;
            display: flex !important; flex-direction: column !important; pointer-events: none !important;
            color-scheme: light dark !important; font: 13px/1.4 system-ui, sans-serif !important;
            --surface: #fff; --text: #1c2330; --soft: #566070; --line: #cdd3db; --hover: #eef1f5; --focus: #1f5fbf;
            --good: #1a7f4b; --busy: #b26a00; --rest: #66708a; --bad: #c0342b; --alert: #fff3d1; --alert-text: #463100;
            --alert-line: #d9a93a; --back: #e2f4e8; --back-text: #0f4a2a; --back-line: #7fbf9a; }
        @media (prefers-color-scheme: dark) { :host {
            --surface: #1d222b; --text: #e8ebf0; --soft: #a9b2bf; --line: #434b59; --hover: #2b323d; --focus: #8ab4f8;
            --good: #4fc98a; --busy: #f0b03f; --rest: #98a2bd; --bad: #f2857c; --alert: #3a2d0b; --alert-text: #ffe8b3;
            --alert-line: #8a6a1c; --back: #12301f; --back-text: #c4efd5; --back-line: #2f7a50; } }
        @media print { :host { display: none !important; } }
        button { all: unset; box-sizing: border-box; cursor: pointer; color: inherit; -webkit-tap-highlight-color: transparent; }
        button:focus-visible { outline: 2px solid var(--focus); outline-offset: 1px; }
        [hidden] { display: none !important; }
        .bar { display: none; flex: none; box-sizing: border-box; min-height: 46px; padding: 8px 12px 8px 16px; gap: 4px 12px;
            align-items: center; background: var(--alert); color: var(--alert-text); border-bottom: 1px solid var(--alert-line);
            box-shadow: 0 1px 6px #0003; font-size: 14px; }
        .bar.alerts, .bar.back { display: flex; }
        .bar.back { background: var(--back); color: var(--back-text); border-color: var(--back-line); }
        .bar > div { flex: 1; overflow-wrap: anywhere; }
        .bar > div:empty { display: none; }
        .bar.back button, .bar:has(~ .stage iframe) .open { display: none; }
        .bar button { flex: none; pointer-events: auto; padding: 3px 10px; border: 1px solid currentColor; border-radius: 6px; white-space: nowrap; }
        .bar button:hover { background: #8883; }
        .stage { position: relative; flex: 1; min-height: 0; margin: 8px; }
        .pill { position: absolute; left: calc(var(--x) * 100%); top: calc(var(--y) * 100%);
            translate: calc(var(--x) * -100%) calc(var(--y) * -100%); display: flex; max-width: 100%; overflow: hidden;
            pointer-events: auto; background: var(--surface); color: var(--text); border: 1px solid var(--line);
            border-radius: 999px; box-shadow: 0 1px 5px #0003; user-select: none; -webkit-user-select: none; }
        .pill:has(:focus-visible) { outline: 2px solid var(--focus); outline-offset: 1px; }
        .pill button { outline: none; }
        .pill button:hover, .fold:focus-visible { background: var(--hover); }
        .main { display: flex; align-items: center; gap: 7px; min-width: 0; height: 26px; padding: 0 4px 0 10px; touch-action: none; }
        .main:active { cursor: grabbing; }
        .dot { flex: none; width: 9px; height: 9px; border-radius: 50%; background: var(--dot); box-sizing: border-box; }
        .dot.rest { --dot: var(--rest); } .dot.good { --dot: var(--good); } .dot.bad { --dot: var(--bad); }
        .dot.busy { --dot: var(--busy); animation: beat 1.6s ease-in-out infinite; }
        .dot.lost { background: none; border: 2px solid var(--bad); }
        @keyframes beat { 50% { opacity: .35; } }
        @media (prefers-reduced-motion: reduce) { .dot.busy { animation: none; } }
        .name { font-weight: 600; max-width: 160px; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
        .status { color: var(--soft); white-space: nowrap; overflow: hidden; text-overflow: ellipsis; }
        .fold { flex: none; width: 24px; padding-right: 4px; text-align: center; color: var(--soft); }
        .collapsed .name, .collapsed .status, .collapsed .fold { display: none; }
        .collapsed .main { padding: 0 8px; }
        iframe { position: absolute; left: calc(var(--x) * 100%); translate: calc(var(--x) * -100%); box-sizing: border-box;
            width: min(384px, 100%); pointer-events: auto; background: var(--surface); border: 1px solid var(--line);
            border-radius: 10px; box-shadow: 0 6px 24px #0004; color-scheme: light dark; }`;

    /* What a status means for the eye; all others are on their way to something. */
    const LOOKS = {
        Executing: 'good', Capturing: 'good', Completed: 'rest', Suspended: 'rest', Cancelled: 'rest', Unknown: 'bad',
        FailToComplete: 'bad', FailToExecute: 'bad', CheckpointFailed: 'bad', Timedout: 'bad', NoAvailableHost: 'bad',
    };

    /** What the alert says of a job that is not responsive. */
    function alertText({name, status, external, possible, ended}) {
        if (ended) return `${ended} This screen does not respond any more.`;
        const until = 'This screen does not respond until it executes again.';
        /* Who is moved by somebody else, or comes back from an earlier state, may have lost what was on its way. */
        const kept = external ? '' : ' What you type is kept.';
        const resume = possible.includes('resume') ? ' Resume it from the panel.' : '';
        switch (status) {
            case 'Floating': return `${name} is moving to another host. ${until}${kept}`;
            case 'Suspending': return `${name} is being suspended. ${until}${kept}`;
            case 'Suspended': return `${name} is suspended. ${until}${resume}`;
            case 'Resuming': return `${name} is being resumed. ${until}`;
            case 'Unknown': return `The host of ${name} is unreachable. ${until}`;
            case 'Cancelling': return `${name} is being cancelled. This screen does not respond any more.`;
        }
        return `${name} does not execute yet (${status}). This screen responds once it does.`;
    }

    function element(name, attributes = {}, ...children) {
        const made = document.createElement(name);
        for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
        made.append(...children);
        return made;
    }

    /* A page may have no storage: then nothing is kept over a reload. */
    function keep(storage, key, value) {
        try {
            if (value === null) window[storage].removeItem(key);
            else window[storage].setItem(key, JSON.stringify(value));
        } catch { /* As said. */ }
    }

    function kept(storage, key) {
        try {
            return JSON.parse(window[storage].getItem(key));
        } catch {
            return null;
        }
    }

    function read(text) {
        try {
            return JSON.parse(text);
        } catch {
            return null;
        }
    }

    /* All listeners, since `document.open` takes them away from the whole document. One that is there is not added twice. */
    const heard = [];

    function on(target, kind, listener) {
        heard.push([target, kind, listener]);
        target.addEventListener(kind, listener);
    }

    function hearAgain() {
        for (const [target, kind, listener] of heard) target.addEventListener(kind, listener);
    }

    const within = (value, least, most) => Math.max(least, Math.min(most, value));

    /** Follows the job's state: `told` gets each one, and null when there has been no connection for a while. */
    function follow(told) {
        const address = `${location.protocol === 'https:' ? 'wss:' : 'ws:'}//${location.host}${STATE_PATH}`;
        let socket = null;
        let attempts = 0;
        let retry = 0;
        let lost = setTimeout(told, LOST_AFTER, null);

        function open() {
            const opened = new WebSocket(address);
            opened.onmessage = ({data}) => {
                const state = read(data);
                if (socket !== opened || !state) return;
                attempts = 0;
                clearTimeout(lost);
                lost = 0;
                told(state);
            };
            opened.onclose = () => {
                if (socket === opened) again();
            };
            return opened;
        }

        function again() {
            socket = null;
            lost ||= setTimeout(told, LOST_AFTER, null);
            const wait = Math.min(RETRY.longest, RETRY.first * 2 ** attempts++);
            retry = setTimeout(connect, wait * (0.5 + Math.random() / 2));
        }

        function connect() {
            clearTimeout(retry);
            const before = socket;
            try {
                socket = open();
            } catch {
                /* Some browsers throw where a policy forbids it. */
                again();
            }
            before?.close();
        }

        connect();
        return {
            now: connect,
            ifWaiting: () => socket ?? connect(),
        };
    }

    /** The bar across the top: an alert while the job is not responsive, and for a moment that it executes again. */
    function makeBar(openPanel) {
        const alert = element('div', {role: 'alert'});
        const calm = element('div', {role: 'status'});
        const open = element('button', {type: 'button', class: 'open', hidden: ''}, 'Open panel');
        const hide = element('button', {type: 'button', 'aria-label': 'Hide this message'}, 'Hide');
        const root = element('div', {class: 'bar'}, alert, calm, open, hide);
        let said = '';
        let since = 0;
        let next = 0;

        function show(kind, text) {
            root.className = `bar ${kind}`;
            alert.textContent = kind === 'alerts' ? text : '';
            calm.textContent = kind === 'back' ? text : '';
        }

        function raise(text, canResume) {
            clearTimeout(next);
            next = 0;
            open.hidden = !canResume;
            /* Nothing new: it is shown, or was hidden by the user. */
            if (text === said) return;
            if (!said) since = performance.now();
            said = text;
            show('alerts', text);
        }

        function lower(text) {
            if (!said || next) return;
            const back = () => {
                said = '';
                show('back', text);
                next = setTimeout(show, BACK_FOR, '', '');
            };
            next = setTimeout(back, Math.max(0, since + ALERT_AT_LEAST - performance.now()));
        }

        on(open, 'click', openPanel);
        on(hide, 'click', () => show('', ''));
        return {root, raise, lower};
    }

    /** The pill: a dot, the job's name and status. It can be moved, and collapsed to the dot. */
    function makePill(stage, toggle, moved) {
        const dot = element('span', {class: 'dot lost'});
        const name = element('span', {class: 'name'});
        const status = element('span', {class: 'status'}, 'connecting');
        const main = element('button', {type: 'button', class: 'main', 'aria-expanded': 'false'}, dot, name, status);
        const fold = element('button', {type: 'button', class: 'fold', 'aria-label': 'Collapse to a dot', title: 'Collapse'}, '\u2013');
        const root = element('div', {class: 'pill', role: 'group', 'aria-label': 'Mooring'}, main, fold);
        /* The share of the free room that is to the left of it and above: so it is always inside, however large the window. */
        const place = {x: 1, y: 0, collapsed: false};
        const before = kept('localStorage', PLACE_KEY);
        let grip = null;
        let dragged = false;

        function put(left, top) {
            const room = {x: stage.clientWidth - root.offsetWidth, y: stage.clientHeight - root.offsetHeight};
            if (room.x > 0) place.x = within(left / room.x, 0, 1);
            if (room.y > 0) place.y = within(top / room.y, 0, 1);
            draw();
        }

        function draw() {
            stage.style.setProperty('--x', place.x);
            stage.style.setProperty('--y', place.y);
            root.classList.toggle('collapsed', place.collapsed);
            moved();
        }

        function at() {
            const own = root.getBoundingClientRect();
            const around = stage.getBoundingClientRect();
            return {left: own.left - around.left, top: own.top - around.top, bottom: own.bottom - around.top};
        }

        function collapse(collapsed) {
            place.collapsed = collapsed;
            draw();
            label();
            keep('localStorage', PLACE_KEY, place);
        }

        function label() {
            const what = place.collapsed ? 'Expand' : 'Job details';
            main.setAttribute('aria-label', `${name.textContent} ${status.textContent}. ${what}; arrow keys move this`);
            main.title = `${name.textContent} ${status.textContent}`.trim();
        }

        function show(look, named, said) {
            dot.className = `dot ${look}`;
            name.textContent = named;
            status.textContent = said;
            label();
        }

        on(main, 'pointerdown', event => {
            if (event.button !== 0) return;
            const {left, top} = at();
            grip = {x: event.clientX, y: event.clientY, left, top};
            dragged = false;
            main.setPointerCapture(event.pointerId);
        });
        on(main, 'pointermove', ({clientX, clientY}) => {
            if (!grip) return;
            const [right, down] = [clientX - grip.x, clientY - grip.y];
            dragged ||= Math.hypot(right, down) >= DRAG_FROM;
            if (dragged) put(grip.left + right, grip.top + down);
        });
        on(main, 'lostpointercapture', () => {
            grip = null;
            if (dragged) keep('localStorage', PLACE_KEY, place);
        });
        on(main, 'click', event => {
            /* The end of a drag by pointer is no click; the keyboard's have no `detail`. */
            if (dragged && event.detail) return;
            if (place.collapsed) collapse(false);
            else toggle();
        });
        on(main, 'keydown', event => {
            const [right, down] = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]}[event.key] ?? [0, 0];
            if (!right && !down) return;
            event.preventDefault();
            const {left, top} = at();
            put(left + right * STEP, top + down * STEP);
            keep('localStorage', PLACE_KEY, place);
        });
        on(fold, 'click', () => {
            collapse(true);
            main.focus();
        });

        if (Number.isFinite(before?.x) && Number.isFinite(before.y)) {
            Object.assign(place, {x: within(before.x, 0, 1), y: within(before.y, 0, 1), collapsed: before.collapsed === true});
        }
        return {root, main, at, show, draw};
    }

    /** The panel: there only while it is open. What it is told is repeated to each new one. */
    function makePanel(stage, pill) {
        let frame = null;
        let ready = false;
        let wanted = PANEL_AT_LEAST;
        let state = null;
        let session = null;

        const sessionKey = () => SESSION_KEY + state.id;
        /* A frame without an origin can't be named as the target; whoever else got there would have what the page has. */
        const post = (mooring, content) => frame.contentWindow?.postMessage({...content, mooring}, '*');

        function open() {
            if (frame) return;
            frame = element('iframe', {sandbox: 'allow-scripts allow-forms', src: PANEL_PATH, title: 'Job details'});
            pill.root.after(frame);
            pill.main.setAttribute('aria-expanded', 'true');
            arrange();
        }

        function close() {
            if (!frame) return;
            const hadFocus = frame.getRootNode().activeElement === frame;
            frame.remove();
            frame = null;
            ready = false;
            pill.main.setAttribute('aria-expanded', 'false');
            if (hadFocus) pill.main.focus();
        }

        /* On the side of the pill that has more room, and never larger than the window. */
        function arrange() {
            if (!frame) return;
            const height = stage.clientHeight;
            const {top, bottom} = pill.at();
            const below = top < height - bottom;
            const room = Math.max(below ? height - bottom - GAP : top - GAP, Math.min(height, PANEL_AT_LEAST));
            const tall = Math.min(wanted, room);
            const start = below ? bottom + GAP : top - GAP - tall;
            frame.style.height = `${tall}px`;
            frame.style.top = `${within(start, 0, height - tall)}px`;
        }

        function tell(now) {
            const isFirst = state === null;
            state = now;
            if (isFirst) session = kept('sessionStorage', sessionKey());
            if (isFirst) greet();
            else if (ready) post('state', state);
        }

        /* Once the panel listens and it is known which job this is. */
        function greet() {
            if (!ready || !state) return;
            post('session', session ?? {token: null});
            post('state', state);
        }

        function hear(event) {
            if (!frame || event.source !== frame.contentWindow) return;
            const {mooring, height, token, username, expiresAt} = event.data ?? {};
            if (mooring === 'ready') {
                ready = true;
                greet();
                if (pill.root.contains(frame.getRootNode().activeElement)) frame.focus();
            } else if (mooring === 'session' && state) {
                session = token ? {token, username, expiresAt} : null;
                keep('sessionStorage', sessionKey(), session);
            } else if (mooring === 'size' && Number.isFinite(height)) {
                wanted = Math.max(0, height) + 2 * BORDER;
                arrange();
            } else if (mooring === 'close') {
                close();
            }
        }

        return {open, close, arrange, tell, hear, toggle: () => (frame ? close() : open()), isOpen: () => frame !== null};
    }

    /**
     * Loads the gateway's waiting page again until the job's own comes in its place: at once when the job begins to respond, and now and then
     * meanwhile, but not under the hands of somebody who has the panel open.
     */
    function waitForPage(panel) {
        if (!document.documentElement.hasAttribute('data-mooring-waiting')) return () => {};
        let responds = null;
        setInterval(() => (responds || !panel.isOpen()) && location.reload(), LOOK_AGAIN);
        return state => {
            /* A job that responds, but not at this port yet, is asked now and then. */
            if (state.responsive && responds === false) location.reload();
            responds = state.responsive;
        };
    }

    /** Puts the widget into the page and keeps it there, unless the page insists. */
    function stay(host) {
        let left = PUT_BACK_AT_MOST;
        let root = null;
        const observer = new MutationObserver(() => {
            if (!document.documentElement || (host.isConnected && root === document.documentElement)) return;
            if (left-- > 0) put();
            else observer.disconnect();
        });

        function put() {
            root = document.documentElement;
            root.append(host);
            observer.disconnect();
            observer.observe(document, {childList: true});
            observer.observe(root, {childList: true});
            hearAgain();
        }

        put();
    }

    function begin() {
        const host = element(HOST);
        const tree = host.attachShadow({mode: 'open'});
        const sheet = new CSSStyleSheet();
        sheet.replaceSync(STYLE);
        tree.adoptedStyleSheets = [sheet];

        const stage = element('div', {class: 'stage'});
        const pill = makePill(stage, () => panel.toggle(), () => panel.arrange());
        const panel = makePanel(stage, pill);
        const bar = makeBar(panel.open);
        const waits = waitForPage(panel);
        stage.append(pill.root);
        tree.append(bar.root, stage);

        let job = null;
        let last = null;
        let isReplaced = false;
        function told(state) {
            if (!state) return cutOff();
            job ??= state.id;
            if (state.id !== job) return replaced(state);
            last = state;
            pill.show(LOOKS[state.status] ?? 'busy', state.name, state.status);
            panel.tell(state);
            waits(state);
            if (state.responsive) bar.lower(`${state.name} executes again.`);
            else bar.raise(alertText(state), state.possible.includes('resume'));
        }

        /* Where a job has ended, the gateway says so for a while only; nothing else comes of it afterwards. */
        function cutOff() {
            if (last?.ended || isReplaced) return;
            if (last?.status !== 'Cancelling') return pill.show('lost', last?.name ?? '', 'no connection to the gateway');
            pill.show('rest', last.name, 'has ended');
            bar.raise(`${last.name} has ended. This screen does not respond any more.`, false);
        }

        /* The job has ended or was disconnected, and the gateway has given its port to another one. */
        function replaced({name}) {
            isReplaced = true;
            panel.close();
            pill.show('bad', name, 'is another job');
            const before = last?.ended ? `${last.ended} ` : '';
            bar.raise(`${before}This address leads to another job now, ${name}. Reload the page to go there.`, false);
        }

        const keys = event => {
            if (event.type === 'keydown' && event.key === 'Escape') panel.close();
            event.stopPropagation();
        };
        for (const kind of ['keydown', 'keypress', 'keyup']) on(tree, kind, keys);
        new ResizeObserver(panel.arrange).observe(stage);
        const line = follow(told);
        on(window, 'message', panel.hear);
        on(window, 'online', line.now);
        on(document, 'visibilitychange', () => document.visibilityState === 'visible' && line.ifWaiting());
        stay(host);
        pill.draw();
    }

    try {
        if (window.top === window && !document.querySelector(HOST)) begin();
    } catch (error) {
        console.warn('the Mooring widget is not shown:', error);
    }
})();
