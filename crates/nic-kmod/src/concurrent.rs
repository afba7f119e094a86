use std::num::NonZero;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Calls `read` for each item, with as many threads as there are processors, and returns the results in the items'
/// order, or the first error in that order.
pub(crate) fn read_concurrently<N: Sync, T: Send, E: Send>(
    names: &[N],
    read: impl Fn(&N) -> Result<T, E> + Sync,
) -> Result<Vec<T>, E> {
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get).min(names.len());
    let next = AtomicUsize::new(0);
    let results: Vec<Mutex<Option<Result<T, E>>>> = names.iter().map(|_| Mutex::new(None)).collect();
    let work = || {
        while let Some((name, slot)) = {
            let index = next.fetch_add(1, Ordering::Relaxed);
            names.get(index).zip(results.get(index))
        } {
            *slot.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(read(name));
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(work);
        }
        work();
    });
    results
        .into_iter()
        .filter_map(|slot| slot.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ModuleName;
    use crate::fixture::name;

    #[test]
    fn concurrent_reading_keeps_the_order_and_reads_each_once() {
        let names: Vec<ModuleName> = (0..300).map(|n| name(&format!("m{n}"))).collect();
        let calls = AtomicUsize::new(0);
        let read = read_concurrently(&names, |name| {
            calls.fetch_add(1, Ordering::Relaxed);
            Ok::<_, ()>(name.clone())
        });
        assert_eq!(read.unwrap(), names);
        assert_eq!(calls.into_inner(), 300);
        assert_eq!(read_concurrently(&[] as &[ModuleName], |_| Err::<(), ()>(())), Ok(Vec::new()));
        let failed =
            read_concurrently(&names, |name| if name.as_str() > "m2" { Err(name.clone()) } else { Ok(()) });
        assert_eq!(failed.unwrap_err().as_str(), "m3", "the first of the list, not of the clock");
    }
}
