// The window in which a user allows a page of a job a session: asks OpCenter for the code and sends
// it to the page that opened the window, if its origin is the one that the user has read.

(() => {
    'use strict';

    /*
     * A page can have its own window disappear from under the pointer between the clicks of a
     * double click. So nothing is allowed before the question could be read.
     */
    const READ_MS = 800;

    document.addEventListener('DOMContentLoaded', () => {
        const question = document.querySelector('[data-job-sign-in]');
        if (!question) return;
        const {jobSignIn: state, csrf, connection, origin, challenge} = question.dataset;
        const allow = question.querySelector('[data-allow]');
        const refuse = question.querySelector('[data-refuse]');
        const told = question.querySelector('[data-told]');
        let timer = 0;

        function tell(text) {
            told.textContent = text;
            told.hidden = false;
        }

        /** Answers the page; the browser delivers it to that origin alone. */
        function answer(content) {
            window.opener?.postMessage({...content, mooring: 'sign-in', state}, origin);
            window.close();
        }

        function arm() {
            clearTimeout(timer);
            allow.disabled = true;
            if (!window.opener) {
                tell(
                    'The page that asked can no longer be answered. Close this window, and sign in there again.',
                );
                return;
            }
            timer = setTimeout(() => {
                allow.disabled = false;
            }, READ_MS);
        }

        async function permit() {
            allow.disabled = true;
            const asked = await fetch(location.pathname, {
                method: 'POST',
                headers: {'X-CSRF-Token': csrf},
                body: new URLSearchParams({connection, origin, challenge}),
                redirect: 'error',
            }).catch(() => null);
            const content = asked?.ok ? await asked.json().catch(() => null) : null;
            if (content?.code) return answer({code: content.code});
            tell('OpCenter did not allow it. Reload this page to see why.');
        }

        allow.addEventListener('click', permit);
        refuse.addEventListener('click', () => answer({refused: true}));
        refuse.disabled = false;
        window.addEventListener('focus', arm);
        document.addEventListener('visibilitychange', arm);
        arm();
    });
})();
