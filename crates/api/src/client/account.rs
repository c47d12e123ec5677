//! Users and groups.

use reqwest::Method;

use super::{Answer, Client};
use crate::paths::{self, fill};
use crate::view::{GroupAddRequest, GroupUpdateRequest, GroupView, UserAddRequest, UserUpdateRequest, UserView};

impl Client {
    /// Adds a user.
    pub async fn user_add(&self, request: &UserAddRequest) -> Answer<UserView> {
        self.json(Method::POST, paths::USERS, Some(request)).await
    }

    /// All users that the caller may see.
    pub async fn user_list(&self) -> Answer<Vec<UserView>> {
        self.json(Method::GET, paths::USERS, None::<&()>).await
    }

    /// One user, by name.
    pub async fn user_get(&self, name: &str) -> Answer<UserView> {
        self.json(Method::GET, &fill(paths::USER, &[name]), None::<&()>).await
    }

    /// Changes a user, all of it or nothing.
    pub async fn user_update(&self, name: &str, request: &UserUpdateRequest) -> Answer<UserView> {
        self.json(Method::PATCH, &fill(paths::USER, &[name]), Some(request)).await
    }

    /// Deletes a user that runs nothing.
    pub async fn user_delete(&self, name: &str) -> Answer<()> {
        self.nothing(Method::DELETE, &fill(paths::USER, &[name]), None::<&()>).await
    }

    /// Deletes a user and cancels its jobs.
    pub async fn user_delete_with_jobs(&self, name: &str) -> Answer<()> {
        let path = format!("{}?cancelJobs=true", fill(paths::USER, &[name]));
        self.nothing(Method::DELETE, &path, None::<&()>).await
    }

    /// Adds a group.
    pub async fn group_add(&self, request: &GroupAddRequest) -> Answer<GroupView> {
        self.json(Method::POST, paths::GROUPS, Some(request)).await
    }

    /// All groups that the caller may see.
    pub async fn group_list(&self) -> Answer<Vec<GroupView>> {
        self.json(Method::GET, paths::GROUPS, None::<&()>).await
    }

    /// One group, by name.
    pub async fn group_get(&self, name: &str) -> Answer<GroupView> {
        self.json(Method::GET, &fill(paths::GROUP, &[name]), None::<&()>).await
    }

    /// Changes a group, all of it or nothing.
    pub async fn group_update(&self, name: &str, request: &GroupUpdateRequest) -> Answer<GroupView> {
        self.json(Method::PATCH, &fill(paths::GROUP, &[name]), Some(request)).await
    }

    /// Deletes a group; its members stay users.
    pub async fn group_delete(&self, name: &str) -> Answer<()> {
        self.nothing(Method::DELETE, &fill(paths::GROUP, &[name]), None::<&()>).await
    }
}
