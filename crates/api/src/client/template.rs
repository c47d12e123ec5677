//! Templates.

use reqwest::Method;

use super::{Answer, Client};
use crate::paths::{self, fill};
use crate::view::{TemplateCreateRequest, TemplateView};

impl Client {
    /// Creates a template.
    pub async fn template_create(&self, request: &TemplateCreateRequest) -> Answer<TemplateView> {
        self.json(Method::POST, paths::TEMPLATES, Some(request)).await
    }

    /// All templates that the caller may use.
    pub async fn template_list(&self) -> Answer<Vec<TemplateView>> {
        self.json(Method::GET, paths::TEMPLATES, None::<&()>).await
    }

    /// One template, by `[private::]name[:tag]`.
    pub async fn template_get(&self, name: &str) -> Answer<TemplateView> {
        self.json(Method::GET, &fill(paths::TEMPLATE, &[name]), None::<&()>).await
    }

    /// Deletes a template, by `[private::]name:tag`.
    pub async fn template_delete(&self, name: &str) -> Answer<()> {
        self.nothing(Method::DELETE, &fill(paths::TEMPLATE, &[name]), None::<&()>).await
    }
}
