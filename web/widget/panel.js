/*
 * The panel of the widget: Job Details of the one job behind this address, and what may be asked of it.
 *
 *   the page's script ◄── ready, session, size, close ── this ── api: login, logout, job, job/<action> ──► gateway ──► OpCenter
 *                     ── session, state ───────────────►
 *
 * It runs in a frame without an origin, so that the page around it can neither read what is typed here nor what is shown; nothing can be
 * stored here either, so the page keeps the session, which is for this job alone. Messages are taken from the page that frames this
 * alone. What the job is doing and what is possible comes from `state`, at each change; the details are read again then, and every
 * ten seconds. Nothing that comes in is ever parsed as HTML.
 */
(() => {
    'use strict';

    const API = '/.mooring/api/';
    const READ_AGAIN_AFTER = 10_000;
    const ANSWERS_WITHIN = 30_000;

    /* What a status means for the eye; all others are on their way to something. */
    const LOOKS = {
        Executing: 'good', Capturing: 'good', Completed: 'rest', Suspended: 'rest', Cancelled: 'rest', Unknown: 'bad',
        FailToComplete: 'bad', FailToExecute: 'bad', CheckpointFailed: 'bad', Timedout: 'bad', NoAvailableHost: 'bad',
    };
    const ACCEPTED = {
        migrate: 'The move has been asked for.',
        suspend: 'The job is being suspended.',
        resume: 'The job is being resumed.',
        cancel: 'The job is being cancelled.',
    };

    const $ = id => document.getElementById(id);
    const buttons = [...document.querySelectorAll('[data-action]')];

    /** As the page said; null until it did. */
    let state = null;
    /** `{token, username, expiresAt}`, null when nobody is logged in, undefined until the page said. */
    let session;
    /** The job as OpCenter has it; null until it was read. */
    let job = null;
    /** `login`, `logout` or the action whose request is under way, or null. */
    let asked = null;
    /** `migrate` or `cancel` while its form is open, or null. */
    let form = null;

    /** What could not be done, in the words of whoever refused. */
    class Refused extends Error {
        constructor(message, hint) {
            super(message);
            this.hint = hint;
        }
    }

    async function call(method, path, body) {
        const headers = {};
        if (session) headers.Authorization = `Bearer ${session.token}`;
        if (body) headers['Content-Type'] = 'application/json';
        const options = {method, headers, body: body && JSON.stringify(body), credentials: 'omit', cache: 'no-store'};
        let answer;
        try {
            answer = await fetch(API + path, {...options, signal: AbortSignal.timeout(ANSWERS_WITHIN)});
        } catch {
            throw new Refused('the gateway does not answer', 'try again in a moment');
        }
        const content = await answer.json().catch(() => null);
        if (answer.ok) return content;
        if (answer.status === 401 && session) {
            keepSession(null);
            throw new Refused('your session has ended', 'log in again');
        }
        throw new Refused(content?.message ?? `the gateway answers with status ${answer.status}`, content?.hint);
    }

    const post = (mooring, content = {}) => parent.postMessage({...content, mooring}, '*');

    function keepSession(now) {
        session = now;
        job = null;
        form = null;
        post('session', session ?? {token: null});
        draw();
    }

    /** Does what may be refused, and says so where it is. */
    async function attempt(what, work) {
        asked = what;
        $('error').replaceChildren();
        $('result').textContent = '';
        draw();
        try {
            await work();
        } catch (error) {
            sayError(error);
        }
        asked = null;
        draw();
    }

    function sayError({message, hint}) {
        const lines = hint ? [message, `hint: ${hint}`] : [message];
        $('error').replaceChildren(...lines.map(line => element('p', ...withCode(line))));
    }

    async function logIn(event) {
        event.preventDefault();
        const credentials = {username: $('username').value, password: $('password').value};
        await attempt('login', async () => {
            const {token, username, expiresAt} = await call('POST', 'login', credentials);
            $('login').reset();
            keepSession({token, username, expiresAt});
        });
        if (!session) return $('password').select();
        $('name').focus();
        await readJob();
    }

    async function logOut() {
        await attempt('logout', () => call('POST', 'logout'));
        keepSession(null);
        $('username').focus();
    }

    async function act(action, body) {
        form = null;
        await attempt(action, async () => {
            await call('POST', `job/${action}`, body);
            $('result').textContent = ACCEPTED[action];
        });
        if (hasNoFocus()) $('name').focus();
        await readJob();
    }

    function migrate(event) {
        event.preventDefault();
        const size = {};
        if ($('cpu').value) size.cpu = Number($('cpu').value);
        if ($('memory').value) size.memGB = Number($('memory').value);
        $('migrate').reset();
        act('migrate', size);
    }

    /** Reads the job, once more if something has changed meanwhile; what went wrong stays until it goes well. */
    const readJob = (() => {
        let reading = false;
        let again = false;
        let failed = false;
        return async () => {
            again = true;
            if (reading) return;
            reading = true;
            while (again && session) {
                again = false;
                const token = session.token;
                try {
                    const read = await call('GET', 'job');
                    if (session?.token === token) job = read;
                    if (failed) $('error').replaceChildren();
                    failed = false;
                } catch (error) {
                    failed = true;
                    sayError(error);
                }
                draw();
            }
            reading = false;
        };
    })();

    function open(which) {
        form = form === which ? null : which;
        draw();
        if (form) $(form).querySelector(form === 'cancel' ? '[data-back]' : 'input').focus();
    }

    function closeForm() {
        const opener = buttons.find(button => button.dataset.action === form);
        form = null;
        draw();
        opener?.focus();
    }

    /** Draws all from what is known. */
    function draw() {
        const known = state !== null && session !== undefined;
        const status = state?.status ?? '';
        $('waiting').hidden = known;
        $('name').textContent = $('login-job').textContent = state?.name ?? 'Job details';
        $('status').hidden = !status;
        $('status').textContent = status;
        $('status').className = `tag ${LOOKS[status] ?? 'busy'}`;
        $('login').hidden = !known || session !== null;
        $('enter').disabled = asked === 'login';
        $('enter').textContent = asked === 'login' ? 'Logging in…' : 'Log in';
        $('details').hidden = !known || !session;
        $('account').hidden = !known || !session;
        $('user').textContent = session?.username ?? '';
        drawFacts();
        drawActions();
    }

    function drawFacts() {
        $('reason').hidden = !job?.statusReason;
        $('reason').textContent = job?.statusReason ?? '';
        const facts = job ? factsOf(job) : [['ID', [state?.id ?? '']]];
        const shown = facts.map(([name, lines]) => [name, lines.filter(line => line)]).filter(([, lines]) => lines.length);
        const drawn = shown.flatMap(([name, lines]) => [
            element('dt', name),
            element('dd', ...lines.map(line => element('div', line))),
        ]);
        /* What has not changed is left alone: somebody may be selecting it. */
        const list = element('dl', ...drawn);
        list.id = 'facts';
        if (!list.isEqualNode($('facts'))) $('facts').replaceWith(list);
    }

    function drawActions() {
        for (const button of buttons) {
            const action = button.dataset.action;
            const isAsked = asked === action;
            button.hidden = state?.external && action !== 'cancel';
            button.disabled = asked !== null || !state?.possible.includes(action);
            button.textContent = isAsked ? 'Asking…' : button.dataset.label;
            button.toggleAttribute('aria-busy', isAsked);
            if (button.ariaExpanded) button.ariaExpanded = String(form === action);
        }
        if (form && !state?.possible.includes(form)) form = null;
        $('migrate').hidden = form !== 'migrate';
        $('cancel').hidden = form !== 'cancel';
        $('elsewhere').hidden = !state?.external;
        $('cpu').placeholder = job?.cpu ?? '';
        $('memory').placeholder = job?.memGB ?? '';
    }

    function factsOf(job) {
        const used = job.memUsed === undefined ? '' : ` (${job.memUsed.toFixed(1)} GB used)`;
        const cores = job.cpu === 1 ? '1 core' : `${job.cpu} cores`;
        return [
            ['ID', [job.id]],
            ['Host', [job.hostName, job.workingHost]],
            ['User', [job.user]],
            ['Submitted', [time(job.submitTime)]],
            ['Duration', [job.duration]],
            ['Size', [job.cpu ? `${cores}, ${job.memGB} GB${used}` : '']],
            ['Image', [job.imageID]],
            ['Gateway', job.portMappings.map(mapping => mapping.replace('->', '→'))],
            ['Last move', lastMove(job.migrations)],
        ];
    }

    function lastMove(migrations) {
        const last = migrations.findLast(({kind}) => kind === 'migrate');
        if (!last) return [];
        const outcome = last.outcome === 'succeeded' ? `frozen for ${last.pauseSeconds.toFixed(2)} s` : [last.outcome, last.failedPhase, last.failure].filter(Boolean).join(': ');
        return [`${last.from} → ${last.to}`, time(last.startTime), outcome];
    }

    function time(text) {
        const moment = new Date(text);
        return Number.isNaN(moment.getTime()) ? text : moment.toLocaleString('en-GB', {dateStyle: 'medium', timeStyle: 'short'});
    }

    function element(name, ...children) {
        const made = document.createElement(name);
        made.append(...children);
        return made;
    }

    /** A text whose literals stand in backticks. */
    function withCode(text) {
        return text.split('`').map((part, index) => (index % 2 ? element('code', part) : part));
    }

    function hear({source, data}) {
        if (source !== parent || !data) return;
        const {mooring, ...content} = data;
        if (mooring === 'session' && session === undefined) {
            session = content.token ? content : null;
        } else if (mooring === 'state') {
            state = content;
        } else {
            return;
        }
        draw();
        focusLogin();
        if (state && session) readJob();
    }

    /** Once the user has come here, the first thing to do is to log in. */
    function focusLogin() {
        if (hasNoFocus() && !$('login').hidden) $('username').focus();
    }

    /** Whether the user is here, and what had the focus is gone. */
    const hasNoFocus = () => document.hasFocus() && document.activeElement === document.body;

    function begin() {
        for (const button of buttons) {
            const action = button.dataset.action;
            button.dataset.label = button.textContent;
            button.onclick = button.ariaExpanded ? () => open(action) : () => act(action);
        }
        for (const back of document.querySelectorAll('[data-back]')) back.onclick = closeForm;
        $('login').onsubmit = logIn;
        $('migrate').onsubmit = migrate;
        $('cancel').onsubmit = event => {
            event.preventDefault();
            act('cancel');
        };
        $('logout').onclick = logOut;
        $('close').onclick = () => post('close');
        window.onkeydown = ({key}) => {
            if (key === 'Escape') (form ? closeForm : () => post('close'))();
        };
        window.onmessage = hear;
        window.onfocus = focusLogin;
        const sized = () => post('size', {height: document.documentElement.offsetHeight});
        new ResizeObserver(sized).observe(document.documentElement);
        setInterval(() => document.visibilityState === 'visible' && session && readJob(), READ_AGAIN_AFTER);
        post('ready');
    }

    begin();
})();
