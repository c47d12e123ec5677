/*
 * The widget in a page of a job: the job's status, an alert while the page does not respond, and
 * the way to the panel.
 *
 *   gateway ── state: WebSocket ──► this script ──► pill, alert
 *           ◄── somebody uses the page ──┤ ▲
 *     state, stored session, answer      ▼ │  ready, session, size, close, sign-in
 *                                      panel: a frame without an origin, served by the gateway
 *
 * To sign in, this script opens OpCenter's own page in a window and passes on what it answers. Only
 * a message from that window's origin, with the random text of this attempt, is an answer.
 *
 * The page is an unknown program. The page and the widget must not disturb each other:
 *
 *  - The widget is one shadow tree below the root element, which pages rarely clear; if one does,
 *    the widget adds itself again. No style crosses the border of the tree. The widget needs
 *    nothing that a Content Security Policy or Trusted Types forbid: styles come from CSSOM,
 *    elements are created one by one, and no text is parsed.
 *  - The shadow tree is open. A closed one would hide the widget from accessibility checkers,
 *    extensions and driven browsers, and protect nothing: the secret, the password, is typed in
 *    OpCenter's window alone.
 *  - The page has the session for this one job, in `sessionStorage`, for a reload to keep it. The
 *    gateway makes sure that the session is good for nothing else.
 *  - The widget never throws into the page, never takes the focus unasked, and lets clicks through
 *    beside its elements. Keys that are pressed in the widget do not reach the shortcuts of the
 *    page.
 */
(() => {
    'use strict';

    const HOST = 'mooring-widget';
    /* A proxy may have the gateway's paths below one of its own. */
    const BASE = document.currentScript?.dataset.base ?? '';
    const STATE_PATH = `${BASE}/.mooring/state`;
    const PANEL_PATH = `${BASE}/.mooring/panel`;
    const POSITION_KEY = 'mooring.widget';
    const SESSION_KEY = 'mooring.session.';
    /* Times are in milliseconds, lengths in CSS pixels. */
    const RECONNECT_DELAY = {first: 500, longest: 10_000};
    const LOST_DELAY = 3_000;
    const ALERT_MIN_TIME = 1_000;
    const NOTICE_TIME = 2_000;
    const RELOAD_INTERVAL = 2_000;
    const USED_INTERVAL = 3_000;
    const FRAMES_INTERVAL = 1_000;
    const REATTACH_MAX = 20;
    const WINDOW_INTERVAL = 300;
    const WINDOW_FEATURES = 'popup,width=520,height=660';
    const DRAG_THRESHOLD = 4;
    const STEP = 16;
    const GAP = 6;
    const PANEL_MIN_HEIGHT = 280;
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
        .bar.blocked > div { flex: none; }
        .bar > div { flex: 1; overflow-wrap: anywhere; }
        .bar > div:empty { display: none; }
        .bar.back button, .bar:has(~ .stage iframe) .open { display: none; }
        .bar button { flex: none; pointer-events: auto; padding: 3px 10px; border: 1px solid currentColor; border-radius: 6px; white-space: nowrap; }
        .bar button:hover { background: #8883; }
        .bar a { flex: none; pointer-events: auto; color: inherit; font-weight: 600; }
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

    /* The colour class of each status; all others are `busy`. */
    const STATUS_CLASSES = {
        Executing: 'good',
        Capturing: 'good',
        Completed: 'rest',
        Suspended: 'rest',
        Cancelled: 'rest',
        Unknown: 'bad',
        FailToComplete: 'bad',
        FailToExecute: 'bad',
        CheckpointFailed: 'bad',
        Timedout: 'bad',
        NoAvailableHost: 'bad',
    };

    /** The text of the alert for a job that is not responsive. */
    function alertText({name, status, external, possible, wakes, ended}) {
        if (ended) return `${ended} This screen does not respond any more.`;
        const until = 'This screen does not respond until the job executes again.';
        /* The scheduler of an external job may lose input during its migration. */
        const kept = external ? '' : ' What you type is kept.';
        const byPanel = possible.includes('resume') ? ' Resume it from the panel.' : '';
        const resume = wakes ? ' A click or a key in this page resumes it.' : byPanel;
        switch (status) {
            case 'Floating':
                return `${name} is migrating to another host. ${until}${kept}`;
            case 'Suspending':
                return `${name} is being suspended. ${until}${kept}`;
            case 'Suspended':
                return `${name} is suspended. ${until}${resume}`;
            case 'Resuming':
                return `${name} is being resumed. ${until}`;
            case 'Unknown':
                return `The host of ${name} is unreachable. ${until}`;
            case 'Cancelling':
                return `${name} is being cancelled. This screen does not respond any more.`;
        }
        return `${name} is not executing yet (${status}). This screen will respond once it is.`;
    }

    function element(name, attributes = {}, ...children) {
        const created = document.createElement(name);
        for (const [key, value] of Object.entries(attributes)) created.setAttribute(key, value);
        created.append(...children);
        return created;
    }

    /* A page may have no storage: then nothing survives a reload. */
    function store(storage, key, value) {
        try {
            if (value === null) window[storage].removeItem(key);
            else window[storage].setItem(key, JSON.stringify(value));
        } catch {
            /* No storage. */
        }
    }

    function load(storage, key) {
        try {
            return JSON.parse(window[storage].getItem(key));
        } catch {
            return null;
        }
    }

    function parse(text) {
        try {
            return JSON.parse(text);
        } catch {
            return null;
        }
    }

    /* All listeners, to be added again: `document.open` removes those of the whole document. */
    const listeners = [];

    function on(target, kind, listener, isFirst = false) {
        listeners.push([target, kind, listener, isFirst]);
        target.addEventListener(kind, listener, isFirst);
    }

    /* The browser ignores a listener that it has already. */
    function addListenersAgain() {
        for (const [target, ...listening] of listeners) target.addEventListener(...listening);
    }

    const within = (value, least, most) => Math.max(least, Math.min(most, value));

    /**
     * Watches the job's state: `onState` gets each state, and null after `LOST_DELAY` without a
     * connection.
     */
    function watchState(onState) {
        const address = `${location.protocol === 'https:' ? 'wss:' : 'ws:'}//${location.host}${STATE_PATH}`;
        let socket = null;
        let attempts = 0;
        let timer = 0;
        let lost = setTimeout(onState, LOST_DELAY, null);

        function open() {
            const opened = new WebSocket(address);
            opened.onmessage = ({data}) => {
                const state = parse(data);
                if (socket !== opened || !state) return;
                attempts = 0;
                clearTimeout(lost);
                lost = 0;
                onState(state);
            };
            opened.onclose = () => {
                if (socket === opened) reconnect();
            };
            return opened;
        }

        function reconnect() {
            socket = null;
            lost ||= setTimeout(onState, LOST_DELAY, null);
            const wait = Math.min(RECONNECT_DELAY.longest, RECONNECT_DELAY.first * 2 ** attempts++);
            timer = setTimeout(connect, wait * (0.5 + Math.random() / 2));
        }

        function connect() {
            clearTimeout(timer);
            const before = socket;
            try {
                socket = open();
            } catch {
                /* Some browsers throw if a policy forbids the connection. */
                reconnect();
            }
            before?.close();
        }

        connect();
        return {
            connectNow: connect,
            connectIfWaiting: () => socket ?? connect(),
            /* Returns whether there is a connection. */
            send: text => {
                const isOpen = socket?.readyState === WebSocket.OPEN;
                if (isOpen) socket.send(text);
                return isOpen;
            },
        };
    }

    /**
     * The bar across the top: an alert while the job is not responsive, then a notice for a moment.
     */
    function makeBar(openPanel) {
        const alert = element('div', {role: 'alert'});
        const notice = element('div', {role: 'status'});
        const open = element('button', {type: 'button', class: 'open', hidden: ''}, 'Open panel');
        const hide = element('button', {type: 'button', 'aria-label': 'Hide this message'}, 'Hide');
        const root = element('div', {class: 'bar'}, alert, notice, open, hide);
        let shown = '';
        let since = 0;
        let next = 0;

        function show(kind, text) {
            root.className = `bar ${kind}`;
            alert.textContent = kind === 'alerts' ? text : '';
            notice.textContent = kind === 'back' ? text : '';
        }

        function raise(text, canResume) {
            clearTimeout(next);
            next = 0;
            open.hidden = !canResume;
            /* The same alert is shown, or was hidden by the user. */
            if (text === shown) return;
            if (!shown) since = performance.now();
            shown = text;
            show('alerts', text);
        }

        function lower(text) {
            if (!shown || next) return;
            const back = () => {
                shown = '';
                show('back', text);
                next = setTimeout(show, NOTICE_TIME, '', '');
            };
            next = setTimeout(back, Math.max(0, since + ALERT_MIN_TIME - performance.now()));
        }

        on(open, 'click', openPanel);
        on(hide, 'click', () => show('', ''));
        return {root, raise, lower};
    }

    /** The pill: a dot, the job's name and status. It can be dragged, and collapsed to the dot. */
    function makePill(stage, toggle, onMove) {
        const dot = element('span', {class: 'dot lost'});
        const name = element('span', {class: 'name'});
        const status = element('span', {class: 'status'}, 'connecting');
        const main = element(
            'button',
            {type: 'button', class: 'main', 'aria-expanded': 'false'},
            dot,
            name,
            status,
        );
        const fold = element(
            'button',
            {type: 'button', class: 'fold', 'aria-label': 'Collapse to a dot', title: 'Collapse'},
            '\u2013',
        );
        const root = element(
            'div',
            {class: 'pill', role: 'group', 'aria-label': 'Mooring'},
            main,
            fold,
        );
        /*
         * The share of the free room to its left and above it: so the pill is inside a window of
         * any size.
         */
        const place = {x: 1, y: 0, collapsed: false};
        const before = load('localStorage', POSITION_KEY);
        let grip = null;
        let dragged = false;

        function put(left, top) {
            const room = {
                x: stage.clientWidth - root.offsetWidth,
                y: stage.clientHeight - root.offsetHeight,
            };
            if (room.x > 0) place.x = within(left / room.x, 0, 1);
            if (room.y > 0) place.y = within(top / room.y, 0, 1);
            draw();
        }

        function draw() {
            stage.style.setProperty('--x', place.x);
            stage.style.setProperty('--y', place.y);
            root.classList.toggle('collapsed', place.collapsed);
            onMove();
        }

        function at() {
            const own = root.getBoundingClientRect();
            const around = stage.getBoundingClientRect();
            return {
                left: own.left - around.left,
                top: own.top - around.top,
                bottom: own.bottom - around.top,
            };
        }

        function collapse(collapsed) {
            place.collapsed = collapsed;
            draw();
            label();
            store('localStorage', POSITION_KEY, place);
        }

        function label() {
            const what = place.collapsed ? 'Expand' : 'Job details';
            main.setAttribute(
                'aria-label',
                `${name.textContent} ${status.textContent}. ${what}; arrow keys move this`,
            );
            main.title = `${name.textContent} ${status.textContent}`.trim();
        }

        function show(statusClass, nameText, statusText) {
            dot.className = `dot ${statusClass}`;
            name.textContent = nameText;
            status.textContent = statusText;
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
            dragged ||= Math.hypot(right, down) >= DRAG_THRESHOLD;
            if (dragged) put(grip.left + right, grip.top + down);
        });
        on(main, 'lostpointercapture', () => {
            grip = null;
            if (dragged) store('localStorage', POSITION_KEY, place);
        });
        on(main, 'click', event => {
            /* The end of a drag is no click; clicks by keyboard have a `detail` of 0. */
            if (dragged && event.detail) return;
            if (place.collapsed) collapse(false);
            else toggle();
        });
        on(main, 'keydown', event => {
            const [right, down] = {
                ArrowLeft: [-1, 0],
                ArrowRight: [1, 0],
                ArrowUp: [0, -1],
                ArrowDown: [0, 1],
            }[event.key] ?? [0, 0];
            if (!right && !down) return;
            event.preventDefault();
            const {left, top} = at();
            put(left + right * STEP, top + down * STEP);
            store('localStorage', POSITION_KEY, place);
        });
        on(fold, 'click', () => {
            collapse(true);
            main.focus();
        });

        if (Number.isFinite(before?.x) && Number.isFinite(before.y)) {
            Object.assign(place, {
                x: within(before.x, 0, 1),
                y: within(before.y, 0, 1),
                collapsed: before.collapsed === true,
            });
        }
        return {root, main, at, show, draw};
    }

    /**
     * OpCenter's window: `onAnswer` gets its code, or why there is none. A browser that blocks the
     * window opens it by the link in `root`, which is a click of the user.
     */
    function makeSignIn(onAnswer) {
        const link = element('a', {target: '_blank', rel: 'opener'}, 'Open OpCenter\u2019s page');
        const hide = element('button', {type: 'button', 'aria-label': 'Hide this message'}, 'Hide');
        const told = element('div', {role: 'alert'});
        const root = element('div', {class: 'bar'}, told, link, hide);
        let asked = null;
        let timer = 0;

        function showLink(url) {
            root.className = url ? 'bar alerts blocked' : 'bar';
            told.textContent = url ? 'The browser has blocked a window.' : '';
            if (url) link.href = url;
            else link.removeAttribute('href');
        }

        function end() {
            clearInterval(timer);
            asked = null;
            showLink('');
        }

        function answer(content) {
            const {state} = asked;
            end();
            onAnswer({...content, state});
        }

        function begin({url, state}) {
            end();
            const {origin, protocol} = new URL(url);
            if (protocol !== 'https:' && protocol !== 'http:') return;
            const opened = window.open(url, '_blank', WINDOW_FEATURES);
            asked = {origin, state, opened};
            if (!opened) {
                showLink(url);
                onAnswer({state, without: 'blocked'});
                return;
            }
            timer = setInterval(
                () => opened.closed && answer({without: 'closed'}),
                WINDOW_INTERVAL,
            );
        }

        function onMessage({source, origin, data}) {
            if (!asked || origin !== asked.origin || (asked.opened && source !== asked.opened))
                return;
            if (data?.mooring !== 'sign-in' || data.state !== asked.state) return;
            answer(data.code ? {code: data.code} : {without: 'refused'});
        }

        on(hide, 'click', () => showLink(''));
        return {root, begin, end, onMessage};
    }

    /**
     * The panel: a frame that exists while it is open. Each new frame gets the session and the
     * state again.
     */
    function makePanel(stage, pill) {
        let frame = null;
        let ready = false;
        let contentHeight = PANEL_MIN_HEIGHT;
        let state = null;
        let session = null;
        const signIn = makeSignIn(answer => frame && post('answer', answer));

        const sessionKey = () => SESSION_KEY + state.mark;
        /*
         * A frame without an origin can't be named as the target. Another document there would get
         * no more than the page has.
         */
        const post = (mooring, content) =>
            frame.contentWindow?.postMessage({...content, mooring}, '*');

        function open() {
            if (frame) return;
            frame = element('iframe', {
                sandbox: 'allow-scripts allow-forms',
                /* A path alone would lead to the server of the page's `base`. */
                src: location.origin + PANEL_PATH,
                title: 'Job details',
            });
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
            signIn.end();
            pill.main.setAttribute('aria-expanded', 'false');
            if (hadFocus) pill.main.focus();
        }

        /* The panel is on the side of the pill with more room, and never larger than the window. */
        function arrange() {
            if (!frame) return;
            const height = stage.clientHeight;
            const {top, bottom} = pill.at();
            const below = top < height - bottom;
            const room = Math.max(
                below ? height - bottom - GAP : top - GAP,
                Math.min(height, PANEL_MIN_HEIGHT),
            );
            const tall = Math.min(contentHeight, room);
            const start = below ? bottom + GAP : top - GAP - tall;
            frame.style.height = `${tall}px`;
            frame.style.top = `${within(start, 0, height - tall)}px`;
        }

        function setState(newState) {
            const isFirst = state === null;
            state = newState;
            if (isFirst) session = load('sessionStorage', sessionKey());
            if (isFirst) greet();
            else if (ready) post('state', state);
        }

        /* Waits for both the panel and the first state, which names the job. */
        function greet() {
            if (!ready || !state) return;
            post('session', session ?? {token: null});
            post('state', state);
        }

        function onMessage(event) {
            signIn.onMessage(event);
            if (!frame || event.source !== frame.contentWindow) return;
            const {mooring, height, token, username, expiresAt, url} = event.data ?? {};
            if (mooring === 'ready') {
                ready = true;
                greet();
                if (pill.root.contains(frame.getRootNode().activeElement)) frame.focus();
            } else if (mooring === 'session' && state) {
                session = token ? {token, username, expiresAt} : null;
                store('sessionStorage', sessionKey(), session);
            } else if (mooring === 'size' && Number.isFinite(height)) {
                contentHeight = Math.max(0, height) + 2 * BORDER;
                arrange();
            } else if (mooring === 'sign-in') {
                signIn.begin({url, state: event.data.state});
            } else if (mooring === 'close') {
                close();
            }
        }

        return {
            open,
            close,
            arrange,
            setState,
            onMessage,
            blocked: signIn.root,
            toggle: () => (frame ? close() : open()),
            isOpen: () => frame !== null,
        };
    }

    /**
     * Calls `tell` when somebody clicks, types or taps in the page while its job can be woken by
     * that. Clicks in the widget have their own meaning. Those in a frame are seen by the
     * browser's record of them alone.
     */
    function watchUse(host, tell) {
        let wakes = false;
        let told = -Infinity;
        let timer = 0;
        let wasActive = false;

        function use() {
            if (!wakes || performance.now() - told < USED_INTERVAL) return;
            if (tell()) told = performance.now();
        }

        const isActive = () =>
            (navigator.userActivation?.isActive ?? false) &&
            /^I?FRAME$/.test(document.activeElement?.tagName ?? '');

        function lookAtFrames() {
            const before = wasActive;
            wasActive = isActive();
            if (wasActive && !before) use();
        }

        for (const kind of ['pointerdown', 'touchstart', 'keydown'])
            on(
                window,
                kind,
                event => {
                    const isOfWidget = event.composedPath().includes(host);
                    /* The keys by which somebody goes to another window. */
                    const leaves = ['Alt', 'Control', 'Meta', 'OS', 'Shift'].includes(event.key);
                    if (event.isTrusted && !isOfWidget && !leaves) use();
                },
                true,
            );
        return state => {
            if (state.wakes === wakes) return;
            wakes = state.wakes;
            clearInterval(timer);
            /* What was clicked before the suspension is no use of the suspended job. */
            wasActive = isActive();
            if (wakes) timer = setInterval(lookAtFrames, FRAMES_INTERVAL);
        };
    }

    /**
     * Reloads the gateway's waiting page until the job's own page comes in its place: at once when
     * the job begins to respond, and at intervals before that, but not while the panel is open. A
     * suspended job is left alone: a reload would wake it.
     */
    function waitForPage(panel) {
        const root = document.documentElement;
        if (!root.hasAttribute('data-mooring-waiting')) return () => {};
        let responds = null;
        let resting = /^Suspend/.test(root.getAttribute('data-mooring-waiting'));
        setInterval(
            () => !resting && (responds || !panel.isOpen()) && location.reload(),
            RELOAD_INTERVAL,
        );
        return state => {
            resting = ['Suspending', 'Suspended', 'Resuming'].includes(state.status);
            const shown = document.querySelector('[role=status] strong');
            if (shown) shown.textContent = state.status;
            /* A job that responds, but not on this port yet, is asked at intervals. */
            if (state.responsive && responds === false) location.reload();
            responds = state.responsive;
        };
    }

    /** Adds the widget to the page, again if the page removes it, up to a number of times. */
    function attach(host) {
        let left = REATTACH_MAX;
        let root = null;
        const observer = new MutationObserver(() => {
            if (
                !document.documentElement ||
                (host.isConnected && root === document.documentElement)
            )
                return;
            if (left-- > 0) append();
            else observer.disconnect();
        });

        function append() {
            root = document.documentElement;
            root.append(host);
            observer.disconnect();
            observer.observe(document, {childList: true});
            observer.observe(root, {childList: true});
            addListenersAgain();
        }

        append();
    }

    function begin() {
        const host = element(HOST);
        const tree = host.attachShadow({mode: 'open'});
        const sheet = new CSSStyleSheet();
        sheet.replaceSync(STYLE);
        tree.adoptedStyleSheets = [sheet];

        const stage = element('div', {class: 'stage'});
        const pill = makePill(
            stage,
            () => panel.toggle(),
            () => panel.arrange(),
        );
        const panel = makePanel(stage, pill);
        const bar = makeBar(panel.open);
        const onWaitingPage = waitForPage(panel);
        const onWakeable = watchUse(host, () => line.send('used'));
        stage.append(pill.root);
        tree.append(bar.root, panel.blocked, stage);

        let job = null;
        let last = null;
        let isReplaced = false;
        function onState(state) {
            if (!state) return onConnectionLost();
            job ??= state.mark;
            if (state.mark !== job) return onReplaced(state);
            last = state;
            pill.show(STATUS_CLASSES[state.status] ?? 'busy', state.name, state.status);
            panel.setState(state);
            onWaitingPage(state);
            onWakeable(state);
            if (state.responsive) bar.lower(`${state.name} is executing again.`);
            else bar.raise(alertText(state), state.possible.includes('resume'));
        }

        /* A gateway tells of an ended job only for a while. */
        function onConnectionLost() {
            if (last?.ended || isReplaced) return;
            if (last?.status !== 'Cancelling')
                return pill.show('lost', last?.name ?? '', 'no connection to the gateway');
            pill.show('rest', last.name, 'has ended');
            bar.raise(`${last.name} has ended. This screen does not respond any more.`, false);
        }

        /* The job has ended or was disconnected, and its port is assigned to another job. */
        function onReplaced({name}) {
            isReplaced = true;
            panel.close();
            pill.show('bad', name, 'is another job');
            const before = last?.ended ? `${last.ended} ` : '';
            bar.raise(
                `${before}This address now leads to another job, ${name}. Reload the page to open it.`,
                false,
            );
        }

        const keys = event => {
            if (event.type === 'keydown' && event.key === 'Escape') panel.close();
            event.stopPropagation();
        };
        for (const kind of ['keydown', 'keypress', 'keyup']) on(tree, kind, keys);
        new ResizeObserver(panel.arrange).observe(stage);
        const line = watchState(onState);
        on(window, 'message', panel.onMessage);
        on(window, 'online', line.connectNow);
        on(
            document,
            'visibilitychange',
            () => document.visibilityState === 'visible' && line.connectIfWaiting(),
        );
        attach(host);
        pill.draw();
    }

    try {
        if (window.top === window && !document.querySelector(HOST)) begin();
    } catch (error) {
        console.warn('the Mooring widget is not shown:', error);
    }
})();
