//! The machine as its cloud knows it: how it is paid for, and notices that it is reclaimed.
//!
//! The source is EC2's instance metadata [`service`]. The instance action is written two minutes
//! ahead. Each action counts: the jobs of a machine that is stopped or hibernated can't be reached
//! either. AWS advises to ask every 5 s; a request costs nothing and two minutes are short, so it
//! is every 2 s.
//!
//! No question waits for the answer to another one: a slow service delays a notice by one answer.
//! An answer that comes later than that to a younger question is dropped.
//!
//! The purchase is asked for until it is known, unless the command line names it. A service that
//! stops answering withdraws nothing: [`CloudFacts`] keep the last answer. Its silence is a problem
//! of the host, which its users see.

mod service;

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use mooring_api::watch::Notice;
use mooring_ops::log::chain;
use mooring_types::host::Purchase;
use mooring_types::{Clock, SystemClock, Timestamp};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::service::{ANSWER_TIMEOUT, Answer, Failure, Question, Service, Token};

/// The interval of questions to a service that answers.
const POLL_INTERVAL: Duration = Duration::from_secs(2);
/// The interval of questions to a service that has not answered yet.
const ABSENT_POLL_INTERVAL: Duration = Duration::from_secs(5);
/// The most questions without an answer at one time.
const OPEN_QUESTIONS_MAX: usize = 40;
/// The time for which a service fails until its silence is told.
const FAILING_TOLD_AFTER: Duration = Duration::from_secs(10);
/// The time without any answer until silence is told: a first notice takes a token before.
const SILENCE_TOLD_AFTER: Duration = Duration::from_secs(2 * ANSWER_TIMEOUT.as_secs());

/// The facts that the cloud has told of the machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct CloudFacts {
    /// The machine's kind of payment; `None` until the cloud has answered.
    pub(crate) purchase: Option<Purchase>,
    pub(crate) notice: Option<Notice>,
    /// The cloud was asked at least once, or is not to be asked.
    pub(crate) asked: bool,
    /// The sentence for people while the service does not answer.
    pub(crate) silence: Option<String>,
}

impl CloudFacts {
    /// The facts before the cloud is asked. A machine without a metadata service is on demand,
    /// unless the command line says otherwise.
    pub(crate) fn before_asking(configured: Option<Purchase>, metadata: Option<&str>) -> Self {
        let has_no_cloud = metadata.is_none();
        let purchase = configured.or(has_no_cloud.then_some(Purchase::OnDemand));
        Self { purchase, notice: None, asked: has_no_cloud, silence: None }
    }
}

/// Watches the metadata service.
#[derive(Debug)]
pub(crate) struct Watcher {
    endpoint: String,
    facts: watch::Sender<CloudFacts>,
    /// Notified of news that are worth a report at once.
    observed: Arc<Notify>,
    token: Option<Token>,
    /// The time at which the machine is reclaimed, if it is.
    action: Latest<Option<Timestamp>>,
    at_risk: Latest<bool>,
    /// The last answer about the machine's future, or the begin.
    answered: (Instant, Timestamp),
    is_failing: bool,
}

/// The answer to the youngest question that was answered.
#[derive(Debug, Default)]
struct Latest<T> {
    question: u64,
    answer: Option<T>,
}

impl<T> Latest<T> {
    fn put(&mut self, question: u64, answer: T) {
        if question >= self.question {
            *self = Self { question, answer: Some(answer) };
        }
    }
}

impl Watcher {
    /// Watches the service at `endpoint`, like `http://169.254.169.254`.
    pub(crate) fn new(endpoint: String, facts: watch::Sender<CloudFacts>, observed: Arc<Notify>) -> Self {
        let (action, at_risk) = (Latest::default(), Latest::default());
        let answered = (Instant::now(), SystemClock.now());
        Self { endpoint, facts, observed, token: None, action, at_risk, answered, is_failing: false }
    }

    /// Watches until asked to stop.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let service = match Service::open(&self.endpoint) {
            Ok(service) => service,
            Err(error) => {
                tracing::error!(error = %chain(&*error), "can't watch the metadata service");
                return;
            }
        };
        let (mut open, mut number, mut next) = (FuturesUnordered::new(), 0, Instant::now());
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep_until(next) => {
                    number += 1;
                    for question in self.due() {
                        if open.len() < OPEN_QUESTIONS_MAX {
                            let asked = service.clone().ask(question, self.token.clone());
                            open.push(async move { (number, question, asked.await) });
                        }
                    }
                    self.notice_silence(SILENCE_TOLD_AFTER, None);
                    let is_known = self.token.is_some();
                    next = Instant::now() + if is_known { POLL_INTERVAL } else { ABSENT_POLL_INTERVAL };
                }
                Some((number, question, outcome)) = open.next() => match outcome {
                    Ok(answer) => {
                        if matches!(answer, Answer::Token(_)) {
                            next = Instant::now();
                        }
                        self.learn(number, answer);
                    }
                    Err(failure) if failure.is_of_token() && self.forget_token() => next = Instant::now(),
                    Err(failure) => self.failed(question, &failure),
                },
            }
        }
    }

    /// Returns the questions that are to be asked now.
    fn due(&mut self) -> Vec<Question> {
        self.token.take_if(|token| token.has_ended());
        let Some(token) = &self.token else { return vec![Question::Token] };
        let mut due = vec![Question::Action, Question::Rebalance];
        due.extend(self.facts.borrow().purchase.is_none().then_some(Question::Purchase));
        due.extend(token.is_old().then_some(Question::Token));
        due
    }

    /// Forgets a token that was refused. Returns whether another one is worth a try at once.
    fn forget_token(&mut self) -> bool {
        self.token.take().is_some_and(|token| token.age() > POLL_INTERVAL)
    }

    fn learn(&mut self, number: u64, answer: Answer) {
        match answer {
            Answer::Token(token) => self.token = Some(token),
            Answer::Purchase(purchase) => {
                if self.facts.send_if_modified(|facts| facts.purchase.replace(purchase) != Some(purchase)) {
                    tracing::info!("the cloud says that this machine is {purchase}");
                    self.observed.notify_one();
                }
            }
            Answer::Action(action) => {
                self.action.put(number, action);
                self.answered = (Instant::now(), SystemClock.now());
                self.is_failing = false;
                if self.facts.send_if_modified(|facts| facts.silence.take().is_some()) {
                    tracing::info!("the metadata service answers again");
                    self.observed.notify_one();
                }
            }
            Answer::Rebalance(at_risk) => self.at_risk.put(number, at_risk),
        }
        match (&self.action.answer, &self.at_risk.answer) {
            (Some(Some(at)), _) => self.publish(Notice::Reclaimed { at: *at }),
            (Some(None), Some(true)) => self.publish(Notice::AtRisk),
            (Some(None), Some(false)) => self.publish(Notice::Stays),
            (None, _) | (Some(None), None) => {}
        }
    }

    fn publish(&self, notice: Notice) {
        let is_new = self.facts.send_if_modified(|facts| facts.notice.replace(notice) != Some(notice));
        if is_new {
            match notice {
                Notice::Stays => tracing::info!("the cloud has no notice for this machine"),
                Notice::AtRisk => tracing::warn!("the cloud may reclaim this machine soon"),
                Notice::Reclaimed { at } => tracing::warn!("the cloud reclaims this machine at {at}"),
            }
            self.observed.notify_one();
        }
        if self.facts.borrow().purchase.is_some() {
            self.facts.send_if_modified(|facts| !std::mem::replace(&mut facts.asked, true));
        }
    }

    fn failed(&mut self, question: Question, failure: &Failure) {
        let error = chain(failure);
        if !std::mem::replace(&mut self.is_failing, true) {
            if self.facts.borrow().notice.is_some() {
                tracing::warn!(%error, ?question, "the metadata service no longer answers");
            } else {
                tracing::info!(%error, "no metadata service answers: this machine gets no notice when it is reclaimed");
            }
        }
        self.facts.send_if_modified(|facts| !std::mem::replace(&mut facts.asked, true));
        self.notice_silence(FAILING_TOLD_AFTER, Some(failure));
    }

    /// Tells of a service that has not answered for some time.
    fn notice_silence(&self, told_after: Duration, failure: Option<&Failure>) {
        let (last, since) = self.answered;
        if last.elapsed() < told_after {
            return;
        }
        let why = failure.map(|failure| format!(": {}", chain(failure))).unwrap_or_default();
        let told = format!(
            "the metadata service does not answer since {since:.0}, \
             so this host may get no notice when it is reclaimed{why}"
        );
        if self.facts.send_if_modified(|facts| facts.silence.is_none() && facts.silence.replace(told).is_none()) {
            self.observed.notify_one();
        }
    }
}
