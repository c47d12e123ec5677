// Lists to pick from by keyboard: the suggestions of the filter's field and the palette's results.
// The input keeps the focus; its list is named by aria-controls.

(() => {
    'use strict';

    let asked = 0;

    function listOf(input) {
        return document.getElementById(input.getAttribute('aria-controls'));
    }

    function options(list) {
        return [...list.querySelectorAll('[role="option"]')];
    }

    function picked(list) {
        return list.querySelector('[aria-selected="true"]');
    }

    function mark(input, list, option) {
        for (const [index, other] of options(list).entries()) {
            other.id ||= `${list.id}-${index}`;
            other.setAttribute('aria-selected', String(other === option));
        }
        input.setAttribute('aria-activedescendant', option?.id ?? '');
        option?.scrollIntoView({block: 'nearest'});
    }

    function move(input, list, step) {
        const all = options(list);
        if (all.length === 0) return;
        const present = all.indexOf(picked(list));
        const next = present < 0 && step < 0 ? all.length - 1 : present + step;
        mark(input, list, all[(next + all.length) % all.length]);
    }

    function show(input, list, html) {
        list.innerHTML = html;
        list.hidden = list.childElementCount === 0;
        input.setAttribute('aria-expanded', String(!list.hidden));
        input.setAttribute('aria-activedescendant', '');
    }

    async function suggest(input) {
        asked += 1;
        const mine = asked;
        const text = input.value.slice(0, input.selectionStart);
        const path = `${input.dataset.suggest}?text=${encodeURIComponent(text)}`;
        try {
            const answer = await fetch(path, {headers: {'HX-Request': 'true'}});
            const html = answer.ok ? await answer.text() : '';
            if (mine === asked && document.activeElement === input)
                show(input, listOf(input), html);
        } catch {
            show(input, listOf(input), '');
        }
    }

    // Replaces the text before the cursor by a suggestion, and asks for what follows it.
    function take(input, option) {
        const before = input.value.slice(0, Number(option.dataset.from)) + option.dataset.text;
        input.value = before + input.value.slice(input.selectionStart);
        input.setSelectionRange(before.length, before.length);
        suggest(input);
    }

    function pick(input, option) {
        if (option.dataset.text === undefined) option.click();
        else take(input, option);
    }

    function key(event, input) {
        const list = listOf(input);
        if (!list) return;
        const suggests = 'suggest' in input.dataset;
        const chosen = picked(list) ?? (suggests ? null : options(list)[0]);
        if (event.key === 'ArrowDown' || event.key === 'ArrowUp') {
            if (suggests && list.hidden) suggest(input);
            move(input, list, event.key === 'ArrowDown' ? 1 : -1);
        } else if (
            (event.key === 'Enter' || (event.key === 'Tab' && suggests)) &&
            chosen &&
            !list.hidden
        ) {
            pick(input, chosen);
        } else if (event.key === 'Escape' && suggests && !list.hidden) {
            show(input, list, '');
        } else {
            return;
        }
        event.preventDefault();
    }

    document.addEventListener('keydown', event => {
        if (event.target.matches?.('[role="combobox"]')) key(event, event.target);
    });
    for (const kind of ['input', 'focusin']) {
        document.addEventListener(kind, event => {
            if (event.target.matches?.('[data-suggest]')) suggest(event.target);
        });
    }
    document.addEventListener('focusout', event => {
        if (event.target.matches?.('[data-suggest]')) show(event.target, listOf(event.target), '');
    });
    // The input keeps the focus while a suggestion is clicked.
    document.addEventListener('mousedown', event => {
        const option = event.target.closest?.('[data-from]');
        if (!option) return;
        event.preventDefault();
        take(document.querySelector(`[aria-controls="${option.parentElement.id}"]`), option);
    });
    document.addEventListener('submit', event => {
        if (event.target.matches('[data-finder]')) event.preventDefault();
    });
    document.addEventListener('click', event => {
        const then = event.target.closest?.('[data-then-close]');
        if (then) Dialogs.close(then.dataset.thenClose);
    });
    document.addEventListener('change', event => {
        const name = event.target.dataset?.selectAll;
        if (!name) return;
        for (const box of event.target.form.querySelectorAll(`input[name="${name}"]`))
            box.checked = event.target.checked;
    });
})();
