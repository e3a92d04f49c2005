//! Memory for the futures of exchanges in progress, and for tasks that live as long as one.
//!
//! The state of an exchange takes some kilobytes, that of an idle connection does not. So an exchange
//! runs in a block from a pool of the shard, and an idle connection holds none. Blocks are reused
//! last in, first out, and allocated only when the pool is empty.
//!
//! Invariant: a future does not move, and its block is not reused, before the future was dropped.
#![expect(unsafe_code, reason = "places futures of any type into memory that is reused")]

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::cell::RefCell;
use std::future::Future;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::pin::Pin;
use std::ptr::NonNull;
use std::task::{Context, Poll};

use crate::limits;

/// The free blocks of one shard.
#[derive(Debug, Default)]
pub struct FuturePool {
    /// A list for each layout: there is one for each kind of exchange.
    free: RefCell<Vec<(Layout, Vec<Block>)>>,
}

impl FuturePool {
    /// Creates a future in a block, in which it runs.
    #[inline]
    pub fn place<F: Future>(&'static self, make: impl FnOnce() -> F) -> PooledFuture<F> {
        let layout = Layout::new::<F>();
        let free = self
            .free
            .borrow_mut()
            .iter_mut()
            .find(|(it, _)| *it == layout)
            .and_then(|(_, blocks)| blocks.pop());
        let block = free.unwrap_or_else(|| Block::new(layout));
        // SAFETY: the block has the layout of `F`, and nothing else refers to it.
        unsafe { block.memory.cast::<F>().write(make()) };
        PooledFuture { block: ManuallyDrop::new(block), pool: self, future: PhantomData }
    }

    #[inline]
    fn release(&self, block: Block) {
        let mut free = self.free.borrow_mut();
        match free.iter_mut().find(|(layout, _)| *layout == block.layout) {
            Some((_, blocks)) if blocks.len() < limits::POOLED_BLOCKS_MAX => blocks.push(block),
            Some(_) => {}
            None => {
                let layout = block.layout;
                free.push((layout, vec![block]));
            }
        }
    }
}

/// A future in a block of a [`FuturePool`].
#[derive(Debug)]
pub struct PooledFuture<F> {
    block: ManuallyDrop<Block>,
    pool: &'static FuturePool,
    future: PhantomData<F>,
}

// What is in the block does not move.
impl<F> Unpin for PooledFuture<F> {}

impl<F: Future> Future for PooledFuture<F> {
    type Output = F::Output;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        // SAFETY: the block holds an `F` from `place` to `drop`, and `self` is borrowed mutably.
        let future = unsafe { self.block.memory.cast::<F>().as_mut() };
        // SAFETY: the content of the block does not move when `self` does.
        unsafe { Pin::new_unchecked(future) }.poll(cx)
    }
}

impl<F> Drop for PooledFuture<F> {
    fn drop(&mut self) {
        // SAFETY: the block holds an `F`, which is not used after this.
        unsafe { self.block.memory.cast::<F>().drop_in_place() };
        // SAFETY: `self.block` is not used after this.
        self.pool.release(unsafe { ManuallyDrop::take(&mut self.block) });
    }
}

/// Memory of one layout.
#[derive(Debug)]
struct Block {
    memory: NonNull<u8>,
    layout: Layout,
}

impl Block {
    fn new(layout: Layout) -> Self {
        assert!(layout.size() > 0, "a future without state");
        // SAFETY: the size is not 0.
        let memory = unsafe { alloc(layout) };
        let Some(memory) = NonNull::new(memory) else { handle_alloc_error(layout) };
        Self { memory, layout }
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout by `new`; its content has been dropped.
        unsafe { dealloc(self.memory.as_ptr(), self.layout) };
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::rc::Rc;
    use std::task::Waker;

    use super::*;

    async fn hold(held: Rc<()>, ready: bool) -> usize {
        if !ready {
            std::future::pending::<()>().await;
        }
        Rc::strong_count(&held)
    }

    impl FuturePool {
        fn free_blocks(&self) -> usize {
            self.free.borrow().iter().map(|(_, blocks)| blocks.len()).sum()
        }
    }

    fn pool() -> &'static FuturePool {
        Box::leak(Box::default())
    }

    #[test]
    fn a_future_runs_to_completion_and_releases_its_block() {
        let (pool, held) = (pool(), Rc::new(()));
        let mut cx = Context::from_waker(Waker::noop());
        for _ in 0..3 {
            let mut future = pin!(pool.place(|| hold(Rc::clone(&held), true)));
            assert_eq!(future.as_mut().poll(&mut cx), Poll::Ready(2));
            assert_eq!(pool.free_blocks(), 0);
        }
        assert_eq!(pool.free_blocks(), 1);
        assert_eq!(Rc::strong_count(&held), 1);
    }

    #[test]
    fn a_cancelled_future_drops_what_it_holds() {
        let (pool, held) = (pool(), Rc::new(()));
        let mut cx = Context::from_waker(Waker::noop());
        let mut future = Box::pin(pool.place(|| hold(Rc::clone(&held), false)));
        assert!(future.as_mut().poll(&mut cx).is_pending());
        drop(future);
        assert_eq!((Rc::strong_count(&held), pool.free_blocks()), (1, 1));
    }

    #[test]
    fn a_block_of_another_size_is_not_reused() {
        let pool = pool();
        drop(pool.place(|| async { [1_u8; 100] }));
        let held = Rc::new(());
        let mut cx = Context::from_waker(Waker::noop());
        let mut future = pin!(pool.place(|| hold(Rc::clone(&held), true)));
        assert_eq!(future.as_mut().poll(&mut cx), Poll::Ready(2));
    }
}
