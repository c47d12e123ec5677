//! Timers of a job fire at their times, by the clock that was meant, wherever it goes.

use mooring_api::Submission;
use mooring_testkit::self_check::SelfCheck;
use mooring_testkit::world::{Plan, World};

/// Sets timers to times some seconds ahead again and again. Says when one fires early, not at all,
/// or once more.
const TIMERS: &str = r#"
import ctypes, os, select, struct, time
libc = ctypes.CDLL(None, use_errno=True)
NONBLOCK, ABSOLUTE = 0o4000, 1
class Setting(ctypes.Structure):
    _fields_ = [(name, ctypes.c_long) for name in ['every', 'every_nanos', 'at', 'at_nanos']]
def made(clock):
    timer = libc.timerfd_create(clock, NONBLOCK)
    assert timer > 0
    return timer
def set_to(timer, at, every=0, flags=ABSOLUTE):
    setting = Setting(*divmod(every, 10**9), *divmod(at, 10**9))
    assert libc.timerfd_settime(timer, flags, ctypes.byref(setting), None) == 0
def fired(timer):
    try: return struct.unpack('Q', os.read(timer, 8))[0]
    except BlockingIOError: return 0
CLOCKS = {time.CLOCK_MONOTONIC: 'monotonic', time.CLOCK_BOOTTIME: 'boot', time.CLOCK_REALTIME: 'wall'}
now = time.clock_gettime_ns
timers = []
for clock in CLOCKS:
    for number in range(8):
        timer, at = made(clock), now(clock) + 2 * 10**9 + number * 250_000_000
        set_to(timer, at)
        timers.append([clock, timer, at, None])
# It has fired, and that was read.
over = made(time.CLOCK_MONOTONIC)
set_to(over, 1)
assert fired(over) == 1
# It has fired, and that was not read.
unread = made(time.CLOCK_MONOTONIC)
set_to(unread, 1)
# Each 20 ms from now on.
quick = made(time.CLOCK_MONOTONIC)
set_to(quick, 20_000_000, 20_000_000, 0)
# Each second, at a quarter.
steady, steps = made(time.CLOCK_MONOTONIC), now(time.CLOCK_MONOTONIC) // 10**9 + 1
set_to(steady, steps * 10**9 + 250_000_000, 10**9)
count = 0
def turns(): return max(0, (now(time.CLOCK_MONOTONIC) - 250_000_000) // 10**9 + 1 - steps)
while True:
    time.sleep(0.1)
    faults = []
    for each in timers:
        clock, timer, at, late_since = each
        if fired(timer):
            early = at - now(clock)
            if early > 10_000_000: faults.append(f'a timer by the {CLOCKS[clock]} clock fired {early / 1e9} s early')
            each[2:] = [now(clock) + 3 * 10**9, None]
            set_to(timer, each[2])
        elif now(clock) > at:
            # A clock that goes on while the job does not may be far ahead.
            each[3] = late_since or time.monotonic()
            if time.monotonic() - each[3] > 1: faults.append(f'a timer by the {CLOCKS[clock]} clock is late')
    if fired(over): faults.append('a timer that was over fired again')
    if not select.select([unread], [], [], 0)[0]: faults.append('a timer that has fired does not say so')
    if not fired(quick): faults.append('a quick timer has ended')
    least = turns()
    count += fired(steady)
    if not least <= count <= turns(): faults.append(f'a steady timer fired {count} times instead of {least}')
    print('BAD ' + '; '.join(faults) if faults else 'ok', flush=True)
"#;

#[test]
fn timers_fire_at_their_times() {
    let world = World::start(Plan::new(env!("CARGO_BIN_EXE_float"))).unwrap();
    let outcome = world.run_inside(async || {
        let client = world.client().await?;
        let job = SelfCheck::launch(&client, TIMERS, Submission::default()).await?;
        for _ in 0..3 {
            job.migrates().await?;
        }
        job.takes_snapshot().await?;
        job.suspends_and_resumes().await?;
        // Each timer fires once more.
        for _ in 0..8 {
            job.goes_on().await?;
        }
        Ok(())
    });
    outcome.unwrap();
}
