// The stream of the page's changes: each replaces the page's HTML, and keeps what the visitor does
// in it. The page says when the stream is lost, and catches up after.

const Live = (() => {
    'use strict';

    // A restart of OpCenter takes less; a shorter interruption is not worth a word.
    const QUIET_MS = 1000;
    const RETRY_MS = 2000;
    const HIDDEN_MS = 5000;
    let hidden = null;
    let stream = null;
    let quiet = null;

    function told(lost) {
        clearTimeout(quiet);
        quiet = null;
        const note = document.querySelector('[data-connection]');
        if (note) note.hidden = !lost;
        document.documentElement.classList.toggle('stale', lost);
    }

    function lose() {
        quiet ??= setTimeout(told, QUIET_MS, true);
    }

    async function swap(html) {
        const target = document.getElementById('page');
        await htmx.swap({sourceElement: target, target, text: html, swap: 'innerMorph'});
        await Choices.fill(html);
        Times.show(target);
        Charts.show(target);
        document.dispatchEvent(new CustomEvent('mooring:page'));
    }

    function ended(data) {
        stop();
        const error = JSON.parse(data);
        if (error.code === 1004) Dialogs.again();
        else gone(error);
    }

    // What the page shows is not there any more. It says so, and stays to be read.
    function gone({message, hint}) {
        const note = document.createElement('div');
        note.className = 'refusal';
        note.id = 'gone';
        note.setAttribute('role', 'alert');
        note.textContent = hint ? `${message}. ${hint}` : message;
        document.getElementById('gone')?.remove();
        document.getElementById('page').prepend(note);
        document.documentElement.classList.add('ended');
    }

    function stop() {
        stream?.close();
        stream = null;
    }

    function start() {
        if (!document.querySelector('meta[name="csrf-token"]')) return;
        stop();
        stream = new EventSource(location.pathname + location.search);
        stream.addEventListener('open', () => told(false));
        stream.addEventListener('release', event => {
            const own = document.querySelector('meta[name="release"]').content;
            // A form that is open is not thrown away for a newer program.
            if (event.data !== own && !document.querySelector('dialog[open]')) location.reload();
        });
        stream.addEventListener('page', event => swap(event.data));
        stream.addEventListener('ended', event => ended(event.data));
        stream.addEventListener('error', () => {
            lose();
            if (stream?.readyState !== EventSource.CLOSED) return;
            // The server refused: the session has ended, or it is another server's answer.
            stop();
            fetch('/login/state', {cache: 'no-store', headers: {'HX-Request': 'true'}})
                .then(answer =>
                    answer.status === 401 ? Dialogs.again() : setTimeout(start, RETRY_MS),
                )
                .catch(() => setTimeout(start, RETRY_MS));
        });
    }

    // A browser opens few connections to a server. A page that nobody looks at holds none.
    document.addEventListener('visibilitychange', () => {
        clearTimeout(hidden);
        if (document.visibilityState === 'hidden') hidden = setTimeout(stop, HIDDEN_MS);
        else if (!stream) start();
    });
    document.addEventListener('DOMContentLoaded', start);
    addEventListener('pagehide', stop);
    addEventListener('pageshow', event => event.persisted && start());
    return {start, stop};
})();
