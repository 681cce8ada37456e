//! How much a host is asked again: a share of what it is asked, so that one that is down is not hammered by everybody at once.

use std::sync::{Mutex, PoisonError};

use tokio::time::Instant;

use crate::RetryPolicy;

/// What one retry costs. A question earns its percentage of it.
const RETRY: u32 = 100;
/// Most retries that are saved up, however well things went before.
const SAVED: u32 = 100;

/// The retries one host is good for.
#[derive(Debug)]
pub(crate) struct Budget {
    percent: u32,
    burst: u32,
    account: Mutex<Account>,
}

#[derive(Debug)]
struct Account {
    balance: u32,
    filled_at: Instant,
}

impl Budget {
    pub(crate) fn new(policy: &RetryPolicy) -> Self {
        let burst = policy.budget_burst.saturating_mul(RETRY);
        let account = Mutex::new(Account { balance: burst, filled_at: Instant::now() });
        Self { percent: policy.budget_percent, burst, account }
    }

    /// A question is put to the host, however often it will be repeated.
    pub(crate) fn earn(&self) {
        let mut account = self.account.lock().unwrap_or_else(PoisonError::into_inner);
        let most = self.burst.max(SAVED.saturating_mul(RETRY));
        account.balance = account.balance.saturating_add(self.percent).min(most);
    }

    /// Whether a question may be repeated; it is paid for then.
    pub(crate) fn spend(&self) -> bool {
        let mut account = self.account.lock().unwrap_or_else(PoisonError::into_inner);
        // Below the burst one retry comes back with every second: what failed an hour ago is no reason.
        let seconds = account.filled_at.elapsed().as_secs();
        if seconds > 0 {
            let refill = u32::try_from(seconds).unwrap_or(u32::MAX).saturating_mul(RETRY);
            account.balance = account.balance.max(account.balance.saturating_add(refill).min(self.burst));
            account.filled_at = Instant::now();
        }
        let paid = account.balance.checked_sub(RETRY);
        if let Some(rest) = paid {
            account.balance = rest;
        }
        paid.is_some()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn spent(budget: &Budget) -> usize {
        std::iter::repeat_with(|| budget.spend()).take(1_000).take_while(|paid| *paid).count()
    }

    #[tokio::test(start_paused = true)]
    async fn a_host_is_asked_again_ten_times_at_once_and_then_for_a_fifth_of_the_questions() {
        let budget = Budget::new(&RetryPolicy::default());
        assert_eq!(spent(&budget), 10);
        for _ in 0..200 {
            budget.earn();
        }
        assert_eq!(spent(&budget), 40);
        for _ in 0..100_000 {
            budget.earn();
        }
        assert_eq!(spent(&budget), 100, "and no more is saved up");
    }

    #[tokio::test(start_paused = true)]
    async fn the_burst_comes_back_by_itself() {
        let budget = Budget::new(&RetryPolicy::default());
        spent(&budget);
        tokio::time::advance(Duration::from_secs(3)).await;
        assert_eq!(spent(&budget), 3);
        tokio::time::advance(Duration::from_hours(1)).await;
        assert_eq!(spent(&budget), 10);
    }
}
