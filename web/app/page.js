// The page: the CSRF token of each request, copying, colours, the menu on a phone, the palette's key.

(() => {
    'use strict';

    const THEMES = ['system', 'light', 'dark'];
    const YEAR_SECONDS = 31536000;

    function theme(name) {
        document.documentElement.dataset.theme = name;
        // biome-ignore lint/suspicious/noDocumentCookie: the server reads it for the next document.
        document.cookie = `mooring-theme=${name}; path=/; max-age=${YEAR_SECONDS}; samesite=strict`;
        for (const button of document.querySelectorAll('[data-theme-next]')) {
            button.title = `Colours: ${name}`;
            button.setAttribute('aria-label', button.title);
        }
        Charts.redraw();
    }

    async function copy(button) {
        const text = button.dataset.copy;
        try {
            await navigator.clipboard.writeText(text);
        } catch {
            // Without TLS a browser has no clipboard for scripts.
            const area = document.createElement('textarea');
            area.value = text;
            (button.closest('dialog') ?? document.body).append(area);
            area.select();
            document.execCommand('copy');
            area.remove();
        }
        Dialogs.toast('Copied');
    }

    function menu(open) {
        document.getElementById('menu')?.classList.toggle('open', open);
        document.querySelector('[data-menu]')?.setAttribute('aria-expanded', String(open));
    }

    function palette() {
        const found = document.getElementById('palette');
        if (found && !found.open)
            htmx.ajax('GET', '/palette', {target: '#palette', swap: 'innerHTML'});
    }

    document.addEventListener('htmx:config:request', event => {
        const token = document.querySelector('meta[name="csrf-token"]');
        if (token) event.detail.ctx.request.headers['X-CSRF-Token'] = token.content;
    });
    document.addEventListener('click', event => {
        const at = selector => event.target.closest?.(selector);
        if (at('[data-copy]')) copy(at('[data-copy]'));
        if (at('[data-theme-next]')) {
            const next = THEMES.indexOf(document.documentElement.dataset.theme) + 1;
            theme(THEMES[next % THEMES.length]);
        }
        if (at('[data-menu]')) menu(!document.getElementById('menu').classList.contains('open'));
        else if (!at('#menu')) menu(false);
        if (at('[data-palette]')) palette();
        for (const popup of document.querySelectorAll('details[data-popup][open]')) {
            if (!popup.contains(event.target)) popup.open = false;
        }
    });
    // A button that is not possible now says why, and does nothing.
    document.addEventListener(
        'click',
        event => {
            const button = event.target.closest?.('[aria-disabled="true"]');
            if (!button) return;
            event.preventDefault();
            event.stopImmediatePropagation();
            if (button.title) Dialogs.toast(button.title, 'bad');
        },
        true,
    );
    // The tab that is open is seen on a phone as well, where not all have room.
    document.addEventListener('DOMContentLoaded', () => {
        const tab = document.querySelector('.tabs [aria-current]');
        if (tab) tab.parentElement.scrollLeft = tab.offsetLeft - tab.parentElement.offsetLeft - 40;
    });
    document.addEventListener('keydown', event => {
        if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === 'k') {
            event.preventDefault();
            palette();
        }
    });
})();
