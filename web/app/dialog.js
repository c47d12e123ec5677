// Dialogues and messages: what opens over the page, and what the server's answers do to it.

const Dialogs = (() => {
    'use strict';

    const TOAST_MS = 6000;
    const KEPT = 'mooring-message';

    function dialog(id) {
        return document.getElementById(id);
    }

    function close(id) {
        const found = dialog(id);
        if (found?.open) found.close();
    }

    function toast(message, kind = 'good') {
        const box = document.createElement('div');
        box.className = `toast ${kind}`;
        const text = document.createElement('div');
        text.textContent = message;
        const button = document.createElement('button');
        button.className = 'plain';
        button.type = 'button';
        button.textContent = '×';
        button.setAttribute('aria-label', 'Close the message');
        button.addEventListener('click', () => box.remove());
        box.append(text, button);
        document.getElementById('toasts')?.append(box);
        // What went wrong stays until it is read.
        if (kind === 'good') setTimeout(() => box.remove(), TOAST_MS);
    }

    function opened(target) {
        if (!(target instanceof HTMLDialogElement)) return;
        target.classList.toggle('wide', target.querySelector('[data-wide]') !== null);
        if (!target.open && target.childElementCount > 0) target.showModal();
        target.querySelector('[aria-invalid="true"], [autofocus]')?.focus();
    }

    function again() {
        if (!dialog('again')?.open)
            htmx.ajax('GET', '/login/again', {target: '#again', swap: 'innerHTML'});
    }

    document.addEventListener('htmx:after:swap', event => opened(event.detail?.ctx?.target));
    document.addEventListener('htmx:error', () => {
        toast('OpCenter did not answer. What you typed is still here: try again.', 'bad');
    });
    document.addEventListener('mooring:done', event => {
        close('dialog');
        toast(event.detail.message);
    });
    document.addEventListener('mooring:go', event => {
        sessionStorage.setItem(KEPT, event.detail.message);
    });
    document.addEventListener('mooring:refused', event => {
        const {class: kind, message, hint} = event.detail;
        toast(hint ? `${kind}: ${message}\n${hint}` : `${kind}: ${message}`, 'bad');
    });
    document.addEventListener('mooring:again', again);
    document.addEventListener('mooring:session', event => {
        document.querySelector('meta[name="csrf-token"]').content = event.detail.csrf;
        close('again');
        toast('You are signed in again');
        Live.start();
    });
    // The visitor may have signed in again in another window.
    window.addEventListener('focus', () => {
        if (dialog('again')?.open)
            htmx.ajax('GET', '/login/state', {target: '#again', swap: 'none'});
    });
    // A button that closes, and a click beside the dialogue.
    document.addEventListener('click', event => {
        if (event.target.closest('[data-close]')) event.target.closest('dialog')?.close();
        if (event.target instanceof HTMLDialogElement && event.target.id === 'palette')
            event.target.close();
    });
    document.addEventListener(
        'close',
        event => {
            if (event.target instanceof HTMLDialogElement) event.target.replaceChildren();
        },
        true,
    );
    document.addEventListener('DOMContentLoaded', () => {
        const message = sessionStorage.getItem(KEPT);
        sessionStorage.removeItem(KEPT);
        if (message) toast(message);
    });
    return {toast, again, close};
})();
