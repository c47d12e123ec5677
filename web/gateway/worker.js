/*
 * The first statements of each service worker of a job.
 *
 * A service worker outlives its job: it would answer for the next job on the same gateway port, and
 * that job's gateway would never see the request. So page loads go to the network past every
 * service worker. The gateway's answer to the first of them removes what the earlier job has left.
 * All other requests are the worker's.
 *
 * What is needed later is kept here, where the worker can't change it.
 */
(() => {
    const {apply} = Reflect;
    const getter = (type, name) => Object.getOwnPropertyDescriptor(type.prototype, name).get;
    const request = getter(FetchEvent, 'request');
    const mode = getter(Request, 'mode');
    const stop = Event.prototype.stopImmediatePropagation;

    /* No later listener learns of the event, so the browser goes to the network. */
    addEventListener('fetch', event => {
        if (apply(mode, apply(request, event, []), []) === 'navigate') apply(stop, event, []);
    });

    /* Static routes would be followed without an event. */
    if (globalThis.InstallEvent) delete InstallEvent.prototype.addRoutes;
})();
