/*
 * The names of cookies for the scripts of a page.
 *
 *   script ── csrf ──► this ── __m…_csrf ──► the browser ── __m…_csrf ──► gateway ── csrf ──► job
 *
 * All ports of a host share their cookies, so the gateway gives those of each connection names of
 * their own. `document.cookie` and `cookieStore` show the names that the job has chosen, and only
 * cookies of this connection. It runs before the scripts of a page, and of a service worker.
 *
 * The rules are those of `browser/cookies.rs` in the gateway, which puts in the marker.
 */
(marker => {
    'use strict';

    /* A page may be given this script twice, by `document.write`. */
    const DONE = Symbol.for('mooring.cookies');
    if (globalThis[DONE]) return;
    Object.defineProperty(globalThis, DONE, {value: true});

    /* Browsers hold cookies with these prefixes to stricter rules: so they stay in front. */
    const PREFIXES = ['__host-http-', '__host-', '__secure-', '__http-'];

    function prefixLength(name) {
        const lower = name.toLowerCase();
        return (PREFIXES.find(prefix => lower.startsWith(prefix)) ?? '').length;
    }

    function toWire(name) {
        const length = prefixLength(name);
        return name.slice(0, length) + marker + name.slice(length);
    }

    /** Returns null for a cookie of another connection. */
    function fromWire(name) {
        const length = prefixLength(name);
        if (!name.startsWith(marker, length)) return null;
        return name.slice(0, length) + name.slice(length + marker.length);
    }

    /** The pairs of a list of cookies that are this connection's. */
    function ownPairs(cookies) {
        const pairs = cookies.split('; ').map(pair => {
            const at = pair.indexOf('=');
            const name = at < 0 ? null : fromWire(pair.slice(0, at));
            return name === null ? null : name === '' ? pair.slice(at + 1) : name + pair.slice(at);
        });
        return pairs.filter(pair => pair !== null).join('; ');
    }

    /** A cookie that a script sets, as it is set on the wire. */
    function forWire(text) {
        const [pair, ...attributes] = text.split(';');
        const at = pair.indexOf('=');
        const name = pair.slice(0, Math.max(at, 0)).trim();
        const value = pair.slice(at + 1).trim();
        if (!name && !value) return text;
        const kept = attributes.filter(attribute => !/^\s*domain\s*(=|$)/i.test(attribute));
        return [`${toWire(name)}=${value}`, ...kept].join(';');
    }

    /** Wraps a property that exists. */
    function wrap(prototype, name, around) {
        const native = prototype && Object.getOwnPropertyDescriptor(prototype, name);
        if (native) Object.defineProperty(prototype, name, {...native, ...around(native)});
    }

    /** The names of a `CookieListItem`: none for a cookie of another connection. */
    const ownItem = item => {
        const name = fromWire(item.name);
        return name === null ? [] : [{...item, name}];
    };
    const isDictionary = given => typeof given === 'object' && given !== null;
    /** A name, or a dictionary with one, as the browser knows it. */
    const renamed = given => {
        if (!isDictionary(given)) return toWire(String(given));
        return given.name === undefined ? given : {...given, name: toWire(String(given.name))};
    };
    /** Without the domain: a cookie of a job goes to no other host. */
    const atThisHost = given => (isDictionary(given) ? {...given, domain: null} : given);

    wrap(globalThis.Document?.prototype, 'cookie', ({get, set}) => ({
        get() {
            return ownPairs(get.call(this));
        },
        set(text) {
            set.call(this, forWire(String(text)));
        },
    }));

    const store = globalThis.CookieStore?.prototype;
    wrap(store, 'getAll', ({value: getAll}) => ({
        async value(...given) {
            return (await getAll.apply(this, given.map(renamed))).flatMap(ownItem);
        },
    }));
    wrap(store, 'get', ({value: get}) => ({
        async value(...given) {
            if (given.length === 0) return get.call(this);
            return (await this.getAll(...given))[0] ?? null;
        },
    }));
    wrap(store, 'set', ({value: set}) => ({
        async value(given, ...rest) {
            return set.call(this, atThisHost(renamed(given)), ...rest);
        },
    }));
    wrap(store, 'delete', ({value: remove}) => ({
        async value(given) {
            return remove.call(this, atThisHost(renamed(given)));
        },
    }));
    for (const kind of ['CookieChangeEvent', 'ExtendableCookieChangeEvent']) {
        for (const list of ['changed', 'deleted']) {
            wrap(globalThis[kind]?.prototype, list, ({get}) => ({
                get() {
                    return get.call(this).flatMap(ownItem);
                },
            }));
        }
    }
    const ofOthers = ({changed, deleted}) => changed.length + deleted.length === 0;
    globalThis.cookieStore?.addEventListener('change', event => {
        if (ofOthers(event)) event.stopImmediatePropagation();
    });

    const manager = globalThis.CookieStoreManager?.prototype;
    for (const name of ['subscribe', 'unsubscribe']) {
        wrap(manager, name, ({value: native}) => ({
            async value(subscriptions) {
                return native.call(this, [...subscriptions].map(renamed));
            },
        }));
    }
    wrap(manager, 'getSubscriptions', ({value: native}) => ({
        async value() {
            const all = await native.call(this);
            return all.flatMap(one => (one.name === undefined ? [one] : ownItem(one)));
        },
    }));
})('__m_');
