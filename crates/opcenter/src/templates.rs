//! Templates: jobs that need no more than a name.

use std::collections::BTreeMap;
use std::path::Path;

use mooring_api::view::SubmitRequest;

use crate::auth;
use crate::error::{ApiError, ApiResult};
use mooring_api::ErrorCode;

/// What a template gives where a request says nothing.
#[derive(Debug, Clone, Default)]
pub(crate) struct Template {
    pub(crate) image: String,
    pub(crate) command: Vec<String>,
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) publish: Vec<String>,
    pub(crate) access_path: String,
    pub(crate) mem_gb: f64,
}

const NAMES: [&str; 1] = ["jupyter"];

/// What JupyterLab's template does: `$0` is the virtual environment, `$1` the token. Its files are in the job's own layer.
const JUPYTER: &str = "mkdir -p /root/work && cd /root/work && exec \"$0/bin/python\" -m jupyter lab --no-browser --allow-root --ip=0.0.0.0 --port=8888 \
--IdentityProvider.token=\"$1\" --ServerApp.root_dir=/root/work --ServerApp.allow_remote_access=True \
--ZMQChannelsWebsocketConnection.iopub_msg_rate_limit=0 --ZMQChannelsWebsocketConnection.iopub_data_rate_limit=0 \
--LabApp.news_url= --LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate";

/// The template that a request names, filled; an empty one where it names none.
pub(crate) fn find(request: &SubmitRequest, jupyter: &Path) -> ApiResult<Template> {
    let name = request.template.split_once(':').map_or(request.template.as_str(), |(name, _)| name);
    match name {
        "" => Ok(Template { access_path: "/".into(), ..Template::default() }),
        "jupyter" => Ok(self::jupyter(jupyter)),
        other => Err(ApiError::new(ErrorCode::NotFound, format!("no template is named `{other}`"))
            .hint(format!("there are: {}", NAMES.join(", ")))),
    }
}

fn jupyter(environment: &Path) -> Template {
    let token = auth::new_token()[..32].to_owned();
    let path = format!("{}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", environment.display());
    Template {
        image: "dir:/".into(),
        command: ["/bin/sh", "-c", JUPYTER, &environment.display().to_string(), &token].map(str::to_owned).into(),
        env: [("PATH", path.as_str()), ("HOME", "/root"), ("SHELL", "/bin/bash")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into(),
        publish: vec!["8888".into()],
        access_path: format!("/lab?token={token}"),
        mem_gb: 2.0,
    }
}
