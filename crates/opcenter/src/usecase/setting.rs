//! Settings: what OpCenter runs with.

use std::path::Path;

use mooring_api::view::{SettingView, SettingsView};

use crate::audit::{AGE_MAX, LIMITS};
use crate::auth::{SESSION_IDLE, SESSION_LIFE, User};
use crate::error::ApiResult;
use crate::state::context::Context;

/// Returns the settings. Keys and tokens are not among them.
pub(crate) fn list(context: &Context, user: &User) -> ApiResult<SettingsView> {
    user.refuse_unless_admin("looking at the settings")?;
    let config = &context.config;
    let store = config.store.as_ref();
    let of_store = |text: fn(&mooring_api::watch::StoreAccess) -> &str| {
        let given = store.map(text).filter(|text| !text.is_empty());
        given.map(ToOwned::to_owned).into_iter().collect::<Vec<_>>()
    };
    let addresses = config.listen.iter().map(ToString::to_string).collect();
    let settings = vec![
        setting("stateDir", "--state-dir", [shown(&config.state_dir)], "directory of the database, keys and output"),
        SettingView { values: addresses, ..setting("listen", "--listen", [], "addresses that OpCenter listens at") },
        setting("backend", "--backend", [config.backend.name().to_owned()], "network between hosts"),
        setting(
            "overlay",
            "--overlay",
            [config.overlay.range().to_string()],
            "network of the addresses of jobs and hosts",
        ),
        SettingView {
            values: of_store(|store| &store.location),
            ..setting("capsuleStore", "--capsule-store", [], "place of suspended jobs and snapshots")
        },
        SettingView {
            values: of_store(|store| &store.endpoint),
            ..setting("capsuleStoreEndpoint", "--capsule-store-endpoint", [], "URL of the capsule store's S3 server")
        },
        SettingView {
            values: of_store(|store| &store.region),
            ..setting("capsuleStoreRegion", "--capsule-store-region", [], "region of the capsule store's S3 server")
        },
        setting("jupyter", "--jupyter", [shown(&config.jupyter)], "JupyterLab of the template `jupyter`"),
        SettingView {
            values: config.jupyter_image.iter().cloned().collect(),
            ..setting("jupyterImage", "--jupyter-image", [], "image of the template `jupyter`, in place of that")
        },
        SettingView {
            values: config.volume_paths.iter().map(|path| shown(path)).collect(),
            ..setting("volumePaths", "--volume-path", [], "directories of hosts that jobs of all users may mount")
        },
        SettingView {
            values: config.image_paths.iter().map(|path| shown(path)).collect(),
            ..setting("imagePaths", "--image-path", [], "directories of hosts with images for jobs of all users")
        },
        SettingView {
            values: config.external_ranges.iter().map(ToString::to_string).collect(),
            ..setting(
                "externalRanges",
                "--external-range",
                [],
                "addresses that external jobs may have beside usual ones",
            )
        },
        SettingView {
            values: config.gateway_hosts.iter().map(ToString::to_string).collect(),
            ..setting("gatewayHosts", "--gateway-host", [], "names by which browsers may reach gateways")
        },
        SettingView {
            values: config.trusted_proxies.iter().map(ToString::to_string).collect(),
            ..setting("trustedProxies", "--trusted-proxy", [], "proxies whose word about clients is believed")
        },
        setting("checkers", "--checker", config.checkers.clone(), "words in user agents that wake no job"),
        SettingView {
            values: config.oidc.iter().map(|oidc| format!("{} ({})", oidc.issuer, oidc.name)).collect(),
            ..setting("oidcIssuer", "--oidc-issuer", [], "provider at which users sign in, beside passwords")
        },
        SettingView {
            values: config.oidc.iter().filter_map(|oidc| oidc.admin_group.clone()).collect(),
            ..setting("oidcAdminGroup", "--oidc-admin-group", [], "group of the provider whose members are admins")
        },
        setting(
            "drainAtOnce",
            "--drain-at-once",
            [config.drain_at_once.to_string()],
            "jobs that leave a drained host at once",
        ),
        setting("sessionLife", "", [hours(SESSION_LIFE)], "longest time from a login to the end of its session"),
        setting("sessionIdle", "", [hours(SESSION_IDLE)], "longest time between two uses of a session"),
        setting(
            "auditAge",
            "",
            [format!("{} d", AGE_MAX.as_secs() / 86_400)],
            "time for which entries of the audit are kept",
        ),
        setting("auditEntries", "", [LIMITS.known.to_string()], "most entries of the audit that are kept"),
    ];
    Ok(SettingsView { version: env!("CARGO_PKG_VERSION").to_owned(), start_time: context.start_time, settings })
}

fn setting(name: &str, flag: &str, values: impl Into<Vec<String>>, description: &str) -> SettingView {
    SettingView { name: name.into(), values: values.into(), flag: flag.into(), description: description.into() }
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

fn hours(time: std::time::Duration) -> String {
    format!("{} h", time.as_secs() / 3600)
}
