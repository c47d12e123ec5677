/*
 * The widget's panel: the details of the job behind this address, and the actions on it.
 *
 *   script of the page ◄── ready, session, size, close, sign-in ── this ── api ──► gateway ──► OpCenter
 *                      ── session, state, answer ───────────────►
 *
 * The calls of `api` are sign-in, login, logout, job and job/<action>.
 *
 * No password is typed here, since any page could look like this one. `sign-in` tells the address
 * of OpCenter's page, which the script of the page opens in a window. The `answer` is a code, the
 * user's refusal, or that the window could not be opened or was closed. `login` exchanges the code,
 * with the verifier that only this panel has, for a session.
 *
 * The panel runs in a frame without an origin: the page around it can neither read what is shown
 * here nor press a button. Nothing can be stored here either, so the page stores the session, which
 * is for this job only. The panel accepts messages only from the page that frames it. Status and
 * possible actions come from `state`, at each change; the details are read again then, and every
 * ten seconds. Nothing that comes in is parsed as HTML.
 */
(() => {
    'use strict';

    const API = 'api/';
    const REFRESH_INTERVAL = 10_000;
    const CALL_TIMEOUT = 30_000;

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
    const ACCEPTED = {
        migrate: 'Migration requested.',
        suspend: 'Suspend requested.',
        resume: 'Resume requested.',
        cancel: 'Cancel requested.',
    };

    /* Why there is no code. */
    const UNANSWERED = {
        refused: 'You did not allow it in OpCenter’s window. You are not signed in.',
        closed: 'OpCenter’s window was closed. You are not signed in.',
        blocked:
            'The browser has blocked OpCenter’s window. Open it with the link at the top of the page.',
    };

    const $ = id => document.getElementById(id);
    const buttons = [...document.querySelectorAll('[data-action]')];

    /** The job's state as the page knows it; null before its first message. */
    let state = null;
    /**
     * `{token, username, expiresAt}`; null without a login, undefined before the page's first
     * message.
     */
    let session;
    /** The job's details from OpCenter; null before they are read. */
    let job = null;
    /** The secrets of the sign-in in progress: `{state, verifier}`, or null. */
    let asked = null;
    /** `sign-in`, `login`, `logout` or the action whose request is in progress, or null. */
    let pending = null;
    /** `migrate` or `cancel` while its form is open, or null. */
    let form = null;

    /** A failed call, with the message and hint of OpCenter or the gateway. */
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
        const options = {
            method,
            headers,
            body: body && JSON.stringify(body),
            credentials: 'omit',
            cache: 'no-store',
        };
        let answer;
        try {
            answer = await fetch(API + path, {
                ...options,
                signal: AbortSignal.timeout(CALL_TIMEOUT),
            });
        } catch {
            throw new Refused('the gateway does not answer', 'try again in a moment');
        }
        const content = await answer.json().catch(() => null);
        if (answer.ok) return content;
        if (answer.status === 401 && session) {
            setSession(null);
            throw new Refused('your session has ended', 'sign in again');
        }
        throw new Refused(
            content?.message ?? `the gateway answered with status ${answer.status}`,
            content?.hint,
        );
    }

    const post = (mooring, content = {}) => parent.postMessage({...content, mooring}, '*');

    function setSession(newSession) {
        session = newSession;
        job = null;
        form = null;
        post('session', session ?? {token: null});
        draw();
    }

    /** Runs a call and shows its error, if it fails. */
    async function attempt(name, work) {
        pending = name;
        $('error').replaceChildren();
        $('result').textContent = '';
        draw();
        try {
            await work();
        } catch (error) {
            showError(error);
        }
        pending = null;
        draw();
    }

    function showError({message, hint}) {
        const lines = hint ? [message, `hint: ${hint}`] : [message];
        $('error').replaceChildren(...lines.map(line => element('p', ...withCode(line))));
    }

    /** Has OpCenter's page opened. The browser permits it for some seconds after the click. */
    async function signIn() {
        asked = null;
        await attempt('sign-in', async () => {
            const {url, state, verifier} = await call('GET', 'sign-in');
            const address = new URL(url);
            address.searchParams.set('origin', location.origin);
            asked = {state, verifier};
            post('sign-in', {url: address.href, state});
            $('result').textContent = 'Go on in OpCenter’s window.';
        });
    }

    /** Takes what came of OpCenter's window. */
    async function onAnswer({state, code, without}) {
        if (!asked || asked.state !== state) return;
        if (!code) {
            if (without !== 'blocked') asked = null;
            $('result').textContent = UNANSWERED[without] ?? '';
            return;
        }
        const {verifier} = asked;
        asked = null;
        await attempt('login', async () => {
            const permission = {code, verifier, origin: location.origin};
            const {token, username, expiresAt} = await call('POST', 'login', permission);
            setSession({token, username, expiresAt});
        });
        if (!session) return;
        $('name').focus();
        await readJob();
    }

    async function logOut() {
        await attempt('logout', () => call('POST', 'logout'));
        setSession(null);
        $('enter').focus();
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

    /**
     * Reads the details, once more if they were asked for meanwhile. An error stays until a read
     * succeeds.
     */
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
                    showError(error);
                }
                draw();
            }
            reading = false;
        };
    })();

    function openForm(name) {
        form = form === name ? null : name;
        draw();
        if (form)
            $(form)
                .querySelector(form === 'cancel' ? '[data-back]' : 'input')
                .focus();
    }

    function closeForm() {
        const opener = buttons.find(button => button.dataset.action === form);
        form = null;
        draw();
        opener?.focus();
    }

    /** Draws everything from the current values. */
    function draw() {
        const isReady = state !== null && session !== undefined;
        const status = state?.status ?? '';
        $('waiting').hidden = isReady;
        $('name').textContent = $('login-job').textContent = state?.name ?? 'Job details';
        $('status').hidden = !status;
        $('status').textContent = status;
        $('status').className = `tag ${STATUS_CLASSES[status] ?? 'busy'}`;
        $('login').hidden = !isReady || session !== null;
        $('enter').disabled = pending === 'sign-in' || pending === 'login';
        $('enter').textContent = pending === 'login' ? 'Signing in…' : 'Sign in';
        $('details').hidden = !isReady || !session;
        $('account').hidden = !isReady || !session;
        $('user').textContent = session?.username ?? '';
        drawFacts();
        drawActions();
    }

    function drawFacts() {
        $('reason').hidden = !job?.statusReason;
        $('reason').textContent = job?.statusReason ?? '';
        const facts = job ? factsOf(job) : [];
        const nonEmpty = facts
            .map(([name, lines]) => [name, lines.filter(line => line)])
            .filter(([, lines]) => lines.length);
        const drawn = nonEmpty.flatMap(([name, lines]) => [
            element('dt', name),
            element('dd', ...lines.map(line => element('div', line))),
        ]);
        /* An unchanged list is left alone, since its text may be selected. */
        const list = element('dl', ...drawn);
        list.id = 'facts';
        if (!list.isEqualNode($('facts'))) $('facts').replaceWith(list);
    }

    function drawActions() {
        for (const button of buttons) {
            const action = button.dataset.action;
            const isPending = pending === action;
            button.hidden = state?.external && action !== 'cancel';
            button.disabled = pending !== null || !state?.possible.includes(action);
            button.textContent = isPending ? 'Requesting…' : button.dataset.label;
            button.toggleAttribute('aria-busy', isPending);
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
            ['Last migration', lastMigration(job.migrations)],
        ];
    }

    function lastMigration(migrations) {
        const last = migrations.findLast(({kind}) => kind === 'migrate');
        if (!last) return [];
        const outcome =
            last.outcome === 'succeeded'
                ? `paused for ${last.pauseSeconds.toFixed(2)} s`
                : [last.outcome, last.failedPhase, last.failure].filter(Boolean).join(': ');
        return [`${last.from} → ${last.to}`, time(last.startTime), outcome];
    }

    function time(text) {
        const moment = new Date(text);
        return Number.isNaN(moment.getTime())
            ? text
            : moment.toLocaleString('en-GB', {dateStyle: 'medium', timeStyle: 'short'});
    }

    function element(name, ...children) {
        const created = document.createElement(name);
        created.append(...children);
        return created;
    }

    /** The nodes of a text with literals in backticks. */
    function withCode(text) {
        return text.split('`').map((part, index) => (index % 2 ? element('code', part) : part));
    }

    function onMessage({source, data}) {
        if (source !== parent || !data) return;
        const {mooring, ...content} = data;
        if (mooring === 'session' && session === undefined) {
            session = content.token ? content : null;
        } else if (mooring === 'state') {
            state = content;
        } else {
            if (mooring === 'answer') onAnswer(content);
            return;
        }
        draw();
        focusLogin();
        if (state && session) readJob();
    }

    /** Moves the focus to the button when the panel gets the focus. */
    function focusLogin() {
        if (hasNoFocus() && !$('login').hidden) $('enter').focus();
    }

    /** True if the panel has the focus, and none of its elements does. */
    const hasNoFocus = () => document.hasFocus() && document.activeElement === document.body;

    function begin() {
        for (const button of buttons) {
            const action = button.dataset.action;
            button.dataset.label = button.textContent;
            button.onclick = button.ariaExpanded ? () => openForm(action) : () => act(action);
        }
        for (const back of document.querySelectorAll('[data-back]')) back.onclick = closeForm;
        $('enter').onclick = signIn;
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
        window.onmessage = onMessage;
        window.onfocus = focusLogin;
        const postSize = () => post('size', {height: document.documentElement.offsetHeight});
        new ResizeObserver(postSize).observe(document.documentElement);
        setInterval(
            () => document.visibilityState === 'visible' && session && readJob(),
            REFRESH_INTERVAL,
        );
        post('ready');
    }

    begin();
})();
