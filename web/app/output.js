// The output of a job: OpCenter pushes the pieces of a file as the job writes them. All of it is
// text: what a job writes never becomes markup.

(() => {
    'use strict';

    // The end of a file that is shown first, and the most that is shown after a click.
    const TAIL_BYTES = 1 << 18;
    const TAIL_BYTES_MAX = 1 << 21;
    const LINES_MAX = 20000;
    const LINE_CHARS_MAX = 4000;
    const RETRY_MS = 2000;
    const HIDDEN_MS = 5000;
    const NEAR_END_PX = 40;
    const ESCAPE = 27;
    const shown = new Map();
    let hidden = null;

    function part(view, name) {
        return view.element.querySelector(`[data-${name}]`);
    }

    // Reads the sequence of a terminal that begins at `start`: where it ends, and the numbers of one
    // that sets colours.
    function sequence(line, start) {
        const kind = line[start + 1];
        if (kind === '[') {
            let end = start + 2;
            while (end < line.length && (line.charCodeAt(end) < 64 || line.charCodeAt(end) > 126))
                end += 1;
            const numbers =
                line[end] === 'm'
                    ? line
                          .slice(start + 2, end)
                          .split(';')
                          .map(Number)
                    : [];
            return {end: end + 1, numbers};
        }
        if (kind === ']') {
            // A title or a link: up to a bell, or an escape with a backslash.
            let end = start + 2;
            while (
                end < line.length &&
                line.charCodeAt(end) !== 7 &&
                line.charCodeAt(end) !== ESCAPE
            )
                end += 1;
            return {end: line.charCodeAt(end) === ESCAPE ? end + 2 : end + 1, numbers: []};
        }
        return {end: start + 2, numbers: []};
    }

    function styled(style, numbers) {
        for (let index = 0; index < numbers.length; index += 1) {
            const number = numbers[index];
            if (number === 0) [style.colour, style.bold] = [null, false];
            else if (number === 1) style.bold = true;
            else if (number === 22) style.bold = false;
            else if (number === 39) style.colour = null;
            else if (number >= 30 && number <= 37) style.colour = number - 30;
            else if (number >= 90 && number <= 97) style.colour = number - 90;
            else if (number === 38 || number === 48) {
                // A colour of a larger palette: its numbers are no colours of their own.
                index += numbers[index + 1] === 5 ? 2 : 4;
            }
        }
    }

    // Writes a line as the text that a terminal would show.
    function write(box, raw, style) {
        const end = raw.endsWith('\r') ? raw.length - 1 : raw.length;
        let line = raw.slice(raw.lastIndexOf('\r', end - 1) + 1, end);
        const more = line.length - LINE_CHARS_MAX;
        if (more > 0) line = line.slice(0, LINE_CHARS_MAX);
        let text = '';
        const flush = () => {
            if (text === '') return;
            if (style.colour === null && !style.bold) {
                box.append(text);
            } else {
                const span = document.createElement('span');
                if (style.colour !== null) span.classList.add(`ink-${style.colour}`);
                if (style.bold) span.classList.add('bold');
                span.textContent = text;
                box.append(span);
            }
            text = '';
        };
        for (let index = 0; index < line.length; ) {
            const code = line.charCodeAt(index);
            if (code === ESCAPE) {
                flush();
                const {end: next, numbers} = sequence(line, index);
                styled(style, numbers);
                index = next;
            } else {
                if (code >= 32 || code === 9) text += line[index];
                index += 1;
            }
        }
        flush();
        if (more > 0) box.append(` … ${more} more characters`);
    }

    function isAtEnd(lines) {
        return lines.scrollHeight - lines.scrollTop - lines.clientHeight < NEAR_END_PX;
    }

    function state(view) {
        const text = view.ended ? 'The job has ended' : view.follows ? 'Following' : 'Paused';
        part(view, 'state').textContent = text;
        part(view, 'follow').hidden = view.follows || view.ended;
    }

    function toEnd(view) {
        const lines = part(view, 'lines');
        lines.scrollTop = lines.scrollHeight;
    }

    function append(view, text) {
        const lines = part(view, 'lines');
        const fresh = document.createDocumentFragment();
        const parts = (view.rest + text).split('\n');
        view.rest = parts.pop();
        view.open?.remove();
        view.open = null;
        // A file that is read from its middle begins with a part of a line.
        if (view.isCut && !view.hasLines && parts.length > 0) parts.shift();
        for (const line of parts.slice(-LINES_MAX)) {
            const box = document.createElement('div');
            write(box, line, view.style);
            found(view, box);
            fresh.append(box);
        }
        view.hasLines ||= parts.length > 0;
        if (view.rest !== '') {
            view.open = document.createElement('div');
            write(view.open, view.rest, {...view.style});
            fresh.append(view.open);
        }
        lines.append(fresh);
        const surplus = lines.childElementCount - LINES_MAX;
        if (surplus > 0) {
            for (const line of [...lines.children].slice(0, surplus)) line.remove();
            part(view, 'cut').hidden = false;
        }
        if (view.follows) toEnd(view);
    }

    function found(view, line) {
        line.classList.toggle(
            'hit',
            view.term !== '' && line.textContent.toLowerCase().includes(view.term),
        );
    }

    function find(view) {
        view.term = part(view, 'find').value.trim().toLowerCase();
        const lines = part(view, 'lines');
        for (const line of lines.children) found(view, line);
        view.at = -1;
        const count = lines.getElementsByClassName('hit').length;
        part(view, 'found').textContent =
            view.term === '' ? '' : `${count} ${count === 1 ? 'line' : 'lines'}`;
        if (count > 0) go(view, -1);
    }

    // Shows the next line that was found, or the one before.
    function go(view, step) {
        const hits = [...part(view, 'lines').getElementsByClassName('hit')];
        if (hits.length === 0) return;
        hits[view.at]?.classList.remove('here');
        view.at =
            view.at < 0 && step < 0
                ? hits.length - 1
                : (view.at + step + hits.length) % hits.length;
        hits[view.at].classList.add('here');
        hits[view.at].scrollIntoView({block: 'center'});
        part(view, 'found').textContent = `${view.at + 1} of ${hits.length}`;
    }

    async function json(path) {
        const answer = await fetch(path, {headers: {Accept: 'application/json'}});
        if (!answer.ok) throw new Error(String(answer.status));
        return answer.json();
    }

    async function size(view) {
        const {files, file} = view.element.dataset;
        const all = await json(files);
        const isPart = name => (file === 'output' ? !name.startsWith('results/') : name === file);
        return all.filter(({name}) => isPart(name)).reduce((sum, {size: bytes}) => sum + bytes, 0);
    }

    async function begin(view) {
        view.offset = Math.max(0, (await size(view)) - view.tail);
        view.isCut = view.offset > 0;
        part(view, 'cut').hidden = !view.isCut;
        part(view, 'more').hidden = view.tail >= TAIL_BYTES_MAX;
        part(view, 'lines').replaceChildren();
        Object.assign(view, {rest: '', open: null, hasLines: false, ended: false, follows: true});
        view.style = {colour: null, bold: false};
        state(view);
    }

    function stop(view) {
        view.stream?.close();
        view.stream = null;
    }

    // Watches the file from where the view is; a watch that is lost begins again there.
    function watch(view) {
        const {output, file} = view.element.dataset;
        const query = new URLSearchParams({file, offset: view.offset});
        view.stream = new EventSource(`${output}?${query}`);
        view.stream.addEventListener('changed', event => {
            const piece = JSON.parse(event.data);
            view.offset = piece.next;
            if (piece.text !== '') append(view, piece.text);
            if (!piece.ended) return;
            view.ended = true;
            stop(view);
            state(view);
        });
        // The page itself says when OpCenter is unreachable or the session has ended.
        view.stream.addEventListener('ended', () => stop(view));
        view.stream.addEventListener('error', () => {
            stop(view);
            setTimeout(follow, RETRY_MS, view, view.round);
        });
    }

    async function follow(view, round) {
        if (!view.element.isConnected) {
            stop(view);
            shown.delete(view.element);
        }
        const isDone = view.ended || view.stream || view.round !== round;
        if (isDone || !view.element.isConnected || document.visibilityState === 'hidden') return;
        try {
            if (view.offset === null) await begin(view);
            if (view.round === round && !view.stream) watch(view);
        } catch {
            setTimeout(follow, RETRY_MS, view, round);
        }
    }

    function restart(view) {
        stop(view);
        view.offset = null;
        view.round += 1;
        follow(view, view.round);
    }

    function show() {
        for (const element of document.querySelectorAll('[data-output]')) {
            if (shown.has(element)) continue;
            const view = {element, tail: TAIL_BYTES, stream: null, round: 0, term: '', at: -1};
            shown.set(element, view);
            const lines = part(view, 'lines');
            lines.addEventListener('scroll', () => {
                view.follows = isAtEnd(lines);
                state(view);
            });
            part(view, 'follow').addEventListener('click', () => toEnd(view));
            part(view, 'more').addEventListener('click', () => {
                view.tail = TAIL_BYTES_MAX;
                restart(view);
            });
            part(view, 'find').addEventListener('input', () => find(view));
            part(view, 'find').addEventListener('keydown', event => {
                if (event.key !== 'Enter') return;
                event.preventDefault();
                go(view, event.shiftKey ? -1 : 1);
            });
            restart(view);
        }
    }

    function forEach(action) {
        for (const view of shown.values()) action(view);
    }

    // A browser opens few connections to a server. A page that nobody looks at holds none.
    document.addEventListener('visibilitychange', () => {
        clearTimeout(hidden);
        if (document.visibilityState === 'hidden') hidden = setTimeout(forEach, HIDDEN_MS, stop);
        else forEach(view => follow(view, view.round));
    });
    addEventListener('pagehide', () => forEach(stop));
    document.addEventListener('DOMContentLoaded', show);
    document.addEventListener('mooring:page', () => {
        // A view whose file is shown no more gives its connection up.
        forEach(view => view.element.isConnected || follow(view, view.round));
        show();
    });
})();
