// Choices of open forms: what comes into being while a form is open appears in it. What was chosen
// stays chosen, also if it is gone: the server then says so beside the field.

const Choices = (() => {
    'use strict';

    const HIDDEN_MS = 5000;
    let hidden = null;
    let stream = null;
    let address = null;

    function boxes(part) {
        return [...part.querySelectorAll('input[type="checkbox"], input[type="radio"]')];
    }

    function chosen(part) {
        if (part instanceof HTMLSelectElement) {
            const option = part.selectedOptions[0];
            return option && {value: option.value, label: option.label};
        }
        return new Map(boxes(part).map(box => [box.value, box.checked]));
    }

    function choose(part, before) {
        if (!(part instanceof HTMLSelectElement)) {
            for (const box of boxes(part)) box.checked = before.get(box.value) ?? box.checked;
        } else if (before) {
            if (![...part.options].some(({value}) => value === before.value))
                part.add(new Option(`${before.label} (gone)`, before.value));
            part.value = before.value;
        }
    }

    // Takes the choices of a form over from its HTML as the server renders it now.
    async function fill(html) {
        const fresh = new DOMParser().parseFromString(html, 'text/html');
        for (const part of document.querySelectorAll('[data-choices]')) {
            const found = fresh.getElementById(part.id);
            if (!found || found.innerHTML === part.innerHTML) continue;
            const before = chosen(part);
            const text = found.innerHTML;
            await htmx.swap({sourceElement: part, target: part, text, swap: 'innerMorph'});
            choose(part, before);
        }
    }

    function show(dialog, html) {
        // A dialogue without a form has nothing that one could lose.
        if (dialog.querySelector('form')) fill(html);
        else htmx.swap({sourceElement: dialog, target: dialog, text: html, swap: 'innerHTML'});
    }

    function stop() {
        stream?.close();
        [stream, address] = [null, null];
    }

    // Follows the dialogue that is open, if it has choices.
    function follow() {
        const dialog = document.querySelector('dialog[open]:has([data-live])');
        const path = dialog?.querySelector('[data-live]').dataset.live;
        if (path === address) return;
        stop();
        if (!path) return;
        address = path;
        stream = new EventSource(path);
        stream.addEventListener('page', event => show(dialog, event.data));
        stream.addEventListener('ended', stop);
    }

    document.addEventListener('htmx:after:swap', follow);
    document.addEventListener('close', follow, true);
    document.addEventListener('visibilitychange', () => {
        clearTimeout(hidden);
        if (document.visibilityState === 'hidden') hidden = setTimeout(stop, HIDDEN_MS);
        else follow();
    });
    addEventListener('pagehide', stop);
    return {fill};
})();
