// The form of Submit Job: rows that grow while one types, errors that are found, files to save.

(() => {
    'use strict';

    // The last row of a list is empty: typing into it adds another one.
    function grow(input) {
        const row = input.closest('[data-rows] > .row');
        if (!row || input.value === '' || row.nextElementSibling?.matches('.row')) return;
        const next = row.cloneNode(true);
        const field = next.querySelector('[name]');
        field.value = '';
        field.removeAttribute('value');
        row.after(next);
    }

    function remove(button) {
        const row = button.closest('.row');
        const list = row.parentElement;
        const input = row.querySelector('[name]');
        if (row.nextElementSibling?.matches('.row')) row.remove();
        else input.value = '';
        list.querySelector('.row:last-of-type [name]')?.focus();
        list.dispatchEvent(new Event('change', {bubbles: true}));
    }

    // Several lines, pasted into a row, are several items.
    function paste(event) {
        const input = event.target;
        if (!input.closest?.('[data-rows]') || input.tagName !== 'INPUT' || input.value !== '')
            return;
        const lines = (event.clipboardData?.getData('text') ?? '')
            .split(/\r?\n/)
            .filter(line => line.trim() !== '');
        if (lines.length < 2) return;
        event.preventDefault();
        let at = input;
        for (const line of lines) {
            at.value = line;
            grow(at);
            at = at.closest('.row').nextElementSibling.querySelector('[name]');
        }
        at.focus();
        at.dispatchEvent(new Event('input', {bubbles: true}));
    }

    // The server sends the texts below the fields; the fields are told whether theirs is an error.
    function mark() {
        for (const text of document.querySelectorAll('#submission .about[id]')) {
            const wrong = text.querySelector('.error') !== null;
            for (const input of document.querySelectorAll(
                `#submission [aria-describedby="${text.id}"]`,
            )) {
                if (wrong) input.setAttribute('aria-invalid', 'true');
                else input.removeAttribute('aria-invalid');
            }
        }
    }

    function lead() {
        const wrong = document.querySelector('#submission [aria-invalid="true"]');
        for (let at = wrong; at; at = at.parentElement?.closest('details')) {
            if (at.tagName === 'DETAILS') at.open = true;
        }
        const refusal = document.querySelector('#preview .refusal');
        if (wrong) wrong.focus();
        else refusal?.scrollIntoView({block: 'nearest'});
    }

    function save(button) {
        const link = document.createElement('a');
        link.href = URL.createObjectURL(
            new Blob([button.dataset.save], {type: 'application/yaml'}),
        );
        link.download = button.dataset.saveName;
        link.click();
        URL.revokeObjectURL(link.href);
    }

    // The answer to a submission stays until something is changed. A preview that was asked for
    // before would take its place.
    let edits = 0;
    let submitted = -1;

    function edited(event) {
        // What leaves a field fires `change` as well, and has been counted as input.
        if (event.type === 'change' && event.isTrusted) return;
        if (event.target.closest?.('#submission')) edits += 1;
    }

    document.addEventListener('input', edited);
    document.addEventListener('change', edited);
    document.addEventListener('htmx:before:request', event => {
        if (event.detail.ctx?.sourceElement?.id === 'submission') submitted = edits;
    });
    document.addEventListener('htmx:before:swap', event => {
        const source = event.detail.ctx?.sourceElement;
        if (source?.matches('#submission > .sections') && submitted === edits)
            event.preventDefault();
    });
    document.addEventListener('input', event => grow(event.target));
    document.addEventListener('paste', paste);
    document.addEventListener('click', event => {
        const at = selector => event.target.closest?.(selector);
        if (at('[data-row-remove]')) remove(at('[data-row-remove]'));
        if (at('[data-save]')) save(at('[data-save]'));
    });
    document.addEventListener('htmx:after:swap', event => {
        const {ctx} = event.detail ?? {};
        if (ctx?.target?.id !== 'preview') return;
        mark();
        if (ctx.sourceElement?.id === 'submission') lead();
    });
    document.addEventListener('DOMContentLoaded', mark);
})();
