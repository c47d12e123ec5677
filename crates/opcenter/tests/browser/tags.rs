//! Tags in any script: they are shown, filtered and changed as they were given.

use std::collections::BTreeMap;

use mooring_api::view::JobModifyRequest;
use mooring_testkit::appearance::Screen;
use mooring_types::JobId;

use crate::site::{Site, click, type_into, until};

/// A tag that is read from the right to the left.
const RIGHT: (&str, &str) = ("פרויקט", "ספינה-7");
/// A tag of emoji, some of which are several characters.
const EMOJI: (&str, &str) = ("👩‍🚀", "🚢🇩🇪");

/// True if the tags are shown one by one, and each key stands on the left of its value.
const IN_ORDER: &str = "
    const tags = [...document.querySelectorAll('#page .tag')].filter(tag => tag.querySelectorAll('bdi').length === 2);
    return tags.length >= 3 && tags.every(tag => {
        const [key, value] = [...tag.querySelectorAll('bdi')].map(part => part.getClientRects()[0]);
        return key.top < value.top || key.left < value.left;
    });";

async fn tag(site: &Site, job: &JobId, tags: &[(&str, &str)]) {
    let tags: BTreeMap<String, String> =
        tags.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let request = JobModifyRequest { add_custom_tags: tags, ..JobModifyRequest::default() };
    site.admin.job_modify(job, &request).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tags_in_any_script_are_shown_filtered_and_changed() {
    let site = Site::small().await;
    let job = site.executing().remove(0);
    let (wide, long) = ("🚢".repeat(63), "ש".repeat(63));
    tag(&site, &job, &[RIGHT, EMOJI, (&long, &wide)]).await;
    let settings = format!("/jobs/{job}?tab=settings");
    let browser = site.visit("/jobs").await;

    for screen in [Screen::Desktop, Screen::Phone] {
        browser.set_screen(screen).await.unwrap();
        site.open(&browser, &settings).await;
        for (key, value) in [RIGHT, EMOJI, (&*long, &*wide)] {
            let shown = format!(
                "return [...document.querySelectorAll('#page .tag')].some(tag => tag.textContent === {:?});",
                format!("{key}: {value}")
            );
            until(&browser, key, &shown).await;
        }
        until(&browser, "the order of keys and values", IN_ORDER).await;
        browser.check_width().await.unwrap();
    }
    browser.set_screen(Screen::Desktop).await.unwrap();

    // Typed into the filter, with the suggestions that fit.
    site.open(&browser, "/jobs").await;
    type_into(&browser, "[name=filter]", &format!("tag:{}=", RIGHT.0)).await;
    let suggested =
        format!("return document.querySelector('#suggestions li')?.textContent.includes({:?}) === true;", RIGHT.1);
    until(&browser, "the suggested value", &suggested).await;
    type_into(&browser, "[name=filter]", &format!("tag:{}={}", RIGHT.0, RIGHT.1)).await;
    click(&browser, "form.filter button:not([type=button])").await;
    let only = format!(
        "const rows = document.querySelectorAll('#jobs tbody tr');
         return rows.length === 1 && rows[0].id === 'row-{job}';"
    );
    until(&browser, "the one job", &only).await;
    let kept: String = browser.run("return document.querySelector('[name=filter]').value;", &[]).await.unwrap();
    assert_eq!(kept, format!("tag:{}={}", RIGHT.0, RIGHT.1));
    // The driver types no emoji.
    let asked = "return encodeURIComponent(given[0]);";
    for (filter, is_found) in [(format!("tag:{}~{}", EMOJI.0, "🚢"), true), (format!("tag:{}=🚢", EMOJI.0), false)]
    {
        let query: String = browser.run(asked, &[filter.clone().into()]).await.unwrap();
        site.open(&browser, &format!("/jobs?filter={query}")).await;
        let none = "return document.querySelectorAll('#jobs tbody tr').length === 0;";
        until(&browser, &filter, if is_found { &only } else { none }).await;
    }

    // Changed in the dialogue, which says what it refuses.
    site.open(&browser, &settings).await;
    click(&browser, "#do-modify").await;
    type_into(&browser, "#dialog [name=tags]", &format!("{}:א ב", RIGHT.0)).await;
    click(&browser, "#dialog footer .primary").await;
    until(
        &browser,
        "the refusal",
        "return document.querySelector('#dialog .error')?.textContent.includes('letters, digits, emoji') === true;",
    )
    .await;
    type_into(&browser, "#dialog [name=tags]", &format!("{}:א", RIGHT.0)).await;
    click(&browser, "#dialog footer .primary").await;
    until(&browser, "the dialogue to close", "return !document.querySelector('#dialog').open;").await;
    let tags = site.admin.job_get(&job).await.unwrap().custom_tags;
    assert_eq!(tags, [(RIGHT.0.to_owned(), "א".to_owned())].into());
    assert_eq!(browser.faults().await.unwrap(), Vec::<String>::new());
    browser.quit().await;
}
