//! The components of templates. Each is a function whose result is written into the page.
//!
//! | component | shows |
//! |---|---|
//! | [`icon()`] | a small picture from the one list of icons |
//! | [`pill`], [`job_pill`] | a status |
//! | [`meter`] | a part of a whole |
//! | [`time()`], [`ago`], [`since`] | a moment, the time passed since, a running duration |
//! | [`copyable`] | a text with a button that copies it |
//! | [`field()`], [`select`], [`checkbox`], [`problem`] | a form's fields and its refusal |
//! | [`below`] | the line below a field: its error, else its hint |
//! | [`close`], [`footer`] | the parts of a dialogue |
//! | [`job_names`] | the jobs that an action concerns |
//! | [`jobs_left`] | the jobs that are left on a drained host |
//! | [`refused`] | why a button does nothing |
//! | [`empty`] | what a list says that is empty |
//! | [`chart()`] | a chart, drawn from an address of the API |
//! | [`bytes()`], [`count`] | amounts for people |

mod chart;
mod dialog;
mod field;
mod icon;
mod jobs;
mod number;
mod status;
mod text;
mod time;

pub(crate) use chart::{Chart, chart};
pub(crate) use dialog::{close, footer};
pub(crate) use field::{Choice, below, checkbox, checkboxes, field, problem, select};
pub(crate) use icon::icon;
pub(crate) use jobs::{job_names, jobs_left};
pub(crate) use number::{Meter, bytes, count, meter};
pub(crate) use status::{Pill, Tone, gateway_pill, host_pill, job_pill, pill, tone_of};
pub(crate) use text::{copyable, empty, refused};
pub(crate) use time::{ago, since, time};

/// Makes a component writable into a page: its template has escaped what it shows.
macro_rules! component {
    ($($name:ident $(<$life:lifetime>)?),+) => {
        $(impl $(<$life>)? askama::filters::HtmlSafe for $name $(<$life>)? {})+
    };
}
use component;
