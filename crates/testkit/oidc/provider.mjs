// An OpenID provider for tests: the certified `oidc-provider`, on this machine's loopback, with a
// form to sign in. `crates/testkit/src/oidc.rs` starts it.
//
// The first argument is its settings as JSON: port (0 for any), clientId, clientSecret,
// userinfo (true: claims are told at the userinfo endpoint, not in ID tokens).
//
// Lines of JSON on stdin change it, and each is answered with a line `ok`:
//   {"redirect": URL}                       a URL that it may send browsers back to
//   {"login": NAME, "claims": {…}}          a person who may sign in under that name
// Its first line is its issuer.

import {generateKeyPairSync} from 'node:crypto';
import {createServer} from 'node:http';
import {createInterface} from 'node:readline';
import Provider from 'oidc-provider';

const settings = JSON.parse(process.argv[2]);
const redirects = new Set();
const people = new Map();

function key(id) {
    const {privateKey} = generateKeyPairSync('ec', {namedCurve: 'P-256'});
    return {...privateKey.export({format: 'jwk'}), kid: id, alg: 'ES256', use: 'sig'};
}

const server = createServer();
await new Promise(done => server.listen(settings.port, '127.0.0.1', done));
// Another site than 127.0.0.1, as a company's sign-in is another site than OpCenter.
const issuer = `http://localhost:${server.address().port}`;

const provider = new Provider(issuer, {
    clients: [
        {
            client_id: settings.clientId,
            client_secret: settings.clientSecret,
            redirect_uris: ['http://127.0.0.1/nowhere'],
            id_token_signed_response_alg: 'ES256',
        },
    ],
    claims: {openid: ['sub'], profile: ['preferred_username', 'name'], groups: ['groups']},
    conformIdTokenClaims: settings.userinfo,
    cookies: {keys: ['of one test']},
    enabledJWA: {idTokenSigningAlgValues: ['ES256', 'RS256']},
    features: {devInteractions: {enabled: false}},
    findAccount: (_, login) => {
        const claims = people.get(login);
        return claims && {accountId: login, claims: () => ({sub: login, ...claims})};
    },
    interactions: {url: (_, interaction) => `/interaction/${interaction.uid}`},
    jwks: {keys: [key(`${Date.now()}-${process.pid}`)]},
    // Who signs in agrees.
    loadExistingGrant: async context => {
        const {client, session} = context.oidc;
        const grant = new provider.Grant({accountId: session.accountId, clientId: client.clientId});
        grant.addOIDCScope('openid profile groups');
        await grant.save();
        return grant;
    },
    pkce: {required: () => true},
    renderError: (context, out) => {
        context.type = 'text/plain';
        context.body = JSON.stringify(out);
    },
    ttl: {AccessToken: 600, AuthorizationCode: 60, Grant: 600, IdToken: 600, Interaction: 600, Session: 600},
});

// The URLs are those that the test names, before or after it has started the provider.
provider.Client.prototype.redirectUriAllowed = url => redirects.has(url);

const PAGE = `<!doctype html><title>Harbour</title><form method="post">
<label>Name <input name="login"></label>
<button name="act" value="in">Sign in</button> <button name="act" value="deny">Cancel</button></form>`;

async function body(request) {
    let text = '';
    for await (const piece of request) text += piece;
    return new URLSearchParams(text);
}

provider.use(async (context, next) => {
    if (!context.path.startsWith('/interaction/')) return next();
    await provider.interactionDetails(context.req, context.res);
    if (context.method === 'GET') {
        context.type = 'text/html';
        context.body = PAGE;
        return;
    }
    const form = await body(context.req);
    const result =
        form.get('act') === 'in' && people.has(form.get('login'))
            ? {login: {accountId: form.get('login')}}
            : {error: 'access_denied', error_description: 'the person has turned back'};
    const to = await provider.interactionResult(context.req, context.res, result);
    context.status = 303;
    context.redirect(to);
});
server.on('request', provider.callback());

createInterface({input: process.stdin}).on('line', line => {
    const {redirect, login, claims} = JSON.parse(line);
    if (redirect) redirects.add(redirect);
    if (login) people.set(login, claims);
    console.log('ok');
});
// The test has ended.
process.stdin.on('close', () => process.exit());
console.log(issuer);
