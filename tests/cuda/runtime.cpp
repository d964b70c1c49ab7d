// CUDA C on the CPU: the blocks of a launch one after the other, the threads of a block as fibers.
//
// A fiber runs until it meets others (a barrier, a shuffle, a vote) or returns; the last to arrive
// does the exchange for all. Where no fiber can run and some have not returned, the kernel has
// diverged: the launch fails and says who waits where. The caller holds a lock around a launch.
#define CUDA_HOST_RUNTIME
#include "host.h"

#include <signal.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <unistd.h>

#if !defined(__x86_64__) && !defined(CUDA_HOST_UCONTEXT)
#define CUDA_HOST_UCONTEXT
#endif
#ifdef CUDA_HOST_UCONTEXT
#include <ucontext.h>
#endif

namespace cuda_host {

constexpr int MAX_THREADS = 1024;
constexpr size_t MAX_SHARED = 232448;  // the most that a block can have (compute capability 9.0)
constexpr size_t PAGE = 65536;         // a multiple of the page size of every system
constexpr size_t STACK = 512 * 1024;   // as much as a thread's local memory can be
constexpr size_t STRIDE = PAGE + STACK + PAGE;  // guard, stack, and room to shift it in
// A NaN as a float and, twice, as a double; far outside every array as an index.
constexpr unsigned POISON = 0x7fffdead;
constexpr unsigned long long POISON_2 = 0x7fffdead7fffdeadull;

const char* const NAMES[] = {
    "__shfl_sync", "__shfl_up_sync", "__shfl_down_sync", "__shfl_xor_sync", "__any_sync",
    "__all_sync", "__ballot_sync", "__syncwarp", "__syncthreads", "__syncthreads_or",
    "__syncthreads_and", "__syncthreads_count",
};

extern "C" {
Thread* cuda_host_current;
uint3 cuda_host_block_index;
dim3 cuda_host_block_dim, cuda_host_grid_dim;
void* cuda_host_dynamic_shared;
}

struct Warp { unsigned alive, waiting; };

static Thread threads[MAX_THREADS];
static Warp warps[MAX_THREADS / 32];
static int ready[MAX_THREADS], ready_count;
static int thread_count, alive_count, barrier_count;
static bool backwards;
static void (*kernel)(void**);
static void** kernel_arguments;

static char message[16384];
static size_t message_length;

// --- Switching. ----------------------------------------------------------------------------------

static char* stacks;
static int stack_count;

static char* stack_top(int number) {
    // Tops are shifted against each other, or all would compete for the same lines of the cache.
    return stacks + (number + 1) * STRIDE - number * 320 % PAGE / 64 * 64;
}

static void thread_entry();

#ifdef CUDA_HOST_UCONTEXT

static ucontext_t contexts[MAX_THREADS], main_context;

static void make_fiber(Thread& thread) {
    ucontext_t& context = contexts[thread.number];
    getcontext(&context);
    char* bottom = stacks + thread.number * STRIDE + PAGE;
    context.uc_stack.ss_sp = bottom;
    context.uc_stack.ss_size = stack_top(thread.number) - bottom;
    context.uc_link = nullptr;
    makecontext(&context, thread_entry, 0);
}
static ucontext_t* context_of(Thread* thread) {
    return thread ? &contexts[thread->number] : &main_context;
}
static void switch_to(Thread* from, Thread* to) { swapcontext(context_of(from), context_of(to)); }

#else

extern "C" void cuda_host_switch(void** save, void* load);
asm(R"(
    .text
    .globl cuda_host_switch
    .hidden cuda_host_switch
    .type cuda_host_switch, @function
cuda_host_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    popq %rcx
    jmpq *%rcx
    .size cuda_host_switch, .-cuda_host_switch
)");

static void* main_stack_pointer;

static void make_fiber(Thread& thread) {
    void** top = reinterpret_cast<void**>(stack_top(thread.number));
    top[-1] = nullptr;  // where a return address would be
    top[-2] = reinterpret_cast<void*>(thread_entry);
    for (int i = 3; i <= 8; ++i) top[-i] = nullptr;
    thread.stack_pointer = top - 8;
}
static void** stack_pointer_of(Thread* thread) {
    return thread ? &thread->stack_pointer : &main_stack_pointer;
}
static void switch_to(Thread* from, Thread* to) {
    cuda_host_switch(stack_pointer_of(from), *stack_pointer_of(to));
}

#endif

[[noreturn]] static void leave() {
    switch_to(cuda_host_current, nullptr);
    __builtin_unreachable();
}

// --- Failing. ------------------------------------------------------------------------------------

__attribute__((format(printf, 1, 2))) static void say(const char* format, ...) {
    va_list arguments;
    va_start(arguments, format);
    size_t left = sizeof message - message_length;
    int written = vsnprintf(message + message_length, left, format, arguments);
    if (written > 0) message_length += static_cast<size_t>(written) < left ? written : left - 1;
    va_end(arguments);
}

static void say_block() {
    const uint3& b = cuda_host_block_index;
    say("block (%u, %u, %u)", b.x, b.y, b.z);
}

static void say_thread() {
    const uint3& t = cuda_host_current->index;
    say(", thread (%u, %u, %u)", t.x, t.y, t.z);
}

extern "C" void cuda_host_fail(const char* what, int line) {
    say_block();
    say_thread();
    say(": %s, line %d", what, line);
    leave();
}

static bool same_place(const Thread& a, const Thread& b) {
    if (a.state != b.state) return false;
    if (a.state == RETURNED) return true;
    return a.operation == b.operation && a.line == b.line && a.mask == b.mask;
}

static void say_numbers(int first) {
    const char* separator = "";
    for (int i = first; i < thread_count;) {
        if (!same_place(threads[i], threads[first])) { ++i; continue; }
        int end = i;
        while (end + 1 < thread_count && same_place(threads[end + 1], threads[first])) ++end;
        if (i == end) say("%s%d", separator, i);
        else say("%s%d-%d", separator, i, end);
        separator = ", ";
        i = end + 1;
    }
}

// Nothing can run any more: who waits where, threads at the same place together.
[[noreturn]] static void fail_diverged() {
    say_block();
    say(": the threads have diverged and wait for each other forever");
    for (int i = 0; i < thread_count; ++i) {
        bool said = false;
        for (int j = 0; j < i && !said; ++j) said = same_place(threads[i], threads[j]);
        if (said) continue;
        const Thread& thread = threads[i];
        say("\n  threads ");
        say_numbers(i);
        if (thread.state == RETURNED) { say(" have returned"); continue; }
        say(" wait at %s, line %d", NAMES[thread.operation], thread.line);
        if (thread.state == WAITS_FOR_WARP) say(", mask 0x%08x", thread.mask);
    }
    leave();
}

// --- The fibers of a block. ----------------------------------------------------------------------

static void push(Thread& thread) {
    thread.state = READY;
    ready[ready_count++] = thread.number;
}

static void run_next(Thread* from) {
    if (ready_count == 0) {
        if (alive_count > 0) fail_diverged();
        cuda_host_current = nullptr;
        switch_to(from, nullptr);
        return;
    }
    Thread* next = &threads[ready[--ready_count]];
    cuda_host_current = next;
    if (next != from) switch_to(from, next);
}

static unsigned long long exchanged(const Thread* lanes, unsigned present, const Thread& self) {
    int segment = self.lane & ~(self.width - 1), end = segment + self.width - 1;
    int own = self.lane, by = self.argument & 31, source = own;
    switch (self.operation) {
        case SHUFFLE_INDEX: source = segment | (by & (self.width - 1)); break;
        case SHUFFLE_UP: source = own - by < segment ? own : own - by; break;
        case SHUFFLE_DOWN: source = own + by > end ? own : own + by; break;
        default: source = (own ^ by) > end ? own : own ^ by; break;
    }
    return present >> source & 1 ? lanes[source].value : POISON_2;
}

static bool is_power_of_two(int n) { return n > 0 && (n & (n - 1)) == 0; }

// Do the exchange of the lanes of a mask if all have arrived that have not returned.
static bool complete_warp(int number, unsigned mask) {
    Warp& warp = warps[number];
    unsigned present = mask & warp.alive;
    if (present == 0 || (warp.waiting & present) != present) return false;
    Thread* lanes = &threads[number * 32];
    const Thread& first = lanes[__builtin_ctz(present)];
    unsigned ballot = 0;
    for (unsigned left = present; left; left &= left - 1) {
        int i = __builtin_ctz(left);
        const Thread& lane = lanes[i];
        // Same mask, same operation, same line: else they are not at the same one.
        if (lane.mask != mask || !same_place(lane, first)) return false;
        if (lane.value) ballot |= 1u << i;
    }
    warp.waiting &= ~present;
    for (unsigned left = present; left;) {
        int i = backwards ? __builtin_ctz(left) : 31 - __builtin_clz(left);
        left &= ~(1u << i);
        Thread& lane = lanes[i];
        switch (lane.operation) {
            case ANY: lane.result = ballot != 0; break;
            case ALL: lane.result = ballot == present; break;
            case BALLOT: lane.result = ballot; break;
            case SYNC_WARP: lane.result = 0; break;
            default: lane.result = exchanged(lanes, present, lane); break;
        }
        if (&lane != cuda_host_current) push(lane);
        else lane.state = READY;
    }
    return true;
}

static bool complete_block() {
    if (barrier_count == 0 || barrier_count != alive_count) return false;
    const Thread* first = nullptr;
    unsigned long long count = 0;
    for (int i = 0; i < thread_count; ++i) {
        const Thread& thread = threads[i];
        if (thread.state != WAITS_FOR_BLOCK) continue;
        if (!first) first = &thread;
        if (!same_place(thread, *first)) return false;
        count += thread.value;
    }
    unsigned long long result = 0;
    if (first->operation == SYNC_OR) result = count > 0;
    if (first->operation == SYNC_AND) result = count == static_cast<unsigned>(barrier_count);
    if (first->operation == SYNC_COUNT) result = count;
    barrier_count = 0;
    for (int i = 0; i < thread_count; ++i) {
        Thread& thread = threads[backwards ? i : thread_count - 1 - i];
        if (thread.state != WAITS_FOR_BLOCK) continue;
        thread.result = result;
        if (&thread != cuda_host_current) push(thread);
        else thread.state = READY;
    }
    return true;
}

extern "C" void cuda_host_meet_warp() {
    Thread& self = *cuda_host_current;
    if (!(self.mask >> self.lane & 1)) {
        cuda_host_fail("the mask of a warp operation lacks the thread that calls it", self.line);
    }
    if (!is_power_of_two(self.width) || self.width > 32) {
        cuda_host_fail("the width of a shuffle is a power of two up to 32", self.line);
    }
    self.state = WAITS_FOR_WARP;
    int warp = self.number / 32;
    warps[warp].waiting |= 1u << self.lane;
    if (!complete_warp(warp, self.mask)) run_next(&self);
}

extern "C" void cuda_host_meet_block() {
    Thread& self = *cuda_host_current;
    self.state = WAITS_FOR_BLOCK;
    ++barrier_count;
    if (!complete_block()) run_next(&self);
}

extern "C" unsigned cuda_host_alive_lanes() { return warps[cuda_host_current->number / 32].alive; }

// A thread that has returned is absent: those who wait may have waited for it alone.
static void thread_entry() {
    kernel(kernel_arguments);
    Thread& self = *cuda_host_current;
    self.state = RETURNED;
    int number = self.number / 32;
    Warp& warp = warps[number];
    warp.alive &= ~(1u << self.lane);
    --alive_count;
    for (int i = 0; i < 32; ++i) {
        if (warp.waiting >> i & 1) complete_warp(number, threads[number * 32 + i].mask);
    }
    complete_block();
    run_next(&self);
    __builtin_unreachable();
}

static void start_block() {
    const dim3& dim = cuda_host_block_dim;
    alive_count = thread_count;
    barrier_count = ready_count = 0;
    for (int w = 0; w * 32 < thread_count; ++w) {
        int lanes = thread_count - w * 32;
        warps[w] = {lanes >= 32 ? 0xffffffffu : (1u << lanes) - 1, 0};
    }
    int number = 0;
    for (unsigned z = 0; z < dim.z; ++z)
        for (unsigned y = 0; y < dim.y; ++y)
            for (unsigned x = 0; x < dim.x; ++x, ++number) {
                Thread& thread = threads[number];
                thread.index = {x, y, z};
                thread.number = number;
                thread.lane = number % 32;
                make_fiber(thread);
            }
    for (int i = 0; i < thread_count; ++i) push(threads[backwards ? i : thread_count - 1 - i]);
}

// --- Memory. -------------------------------------------------------------------------------------

static void* map(size_t bytes) {
    void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return memory == MAP_FAILED ? nullptr : memory;
}

static bool have_stacks(int count) {
    if (count <= stack_count) return true;
    if (stacks) munmap(stacks, stack_count * STRIDE);
    stack_count = 0;
    stacks = static_cast<char*>(map(count * STRIDE));
    if (!stacks) return false;
    for (int i = 0; i < count; ++i) mprotect(stacks + i * STRIDE, PAGE, PROT_NONE);
    stack_count = count;
    return true;
}

static char* shared_memory;  // its end is the start of a page that cannot be touched
constexpr size_t SHARED_PAGES = (MAX_SHARED + PAGE - 1) / PAGE * PAGE;

static bool have_shared(size_t bytes) {
    if (!shared_memory) {
        shared_memory = static_cast<char*>(map(SHARED_PAGES + PAGE));
        if (!shared_memory) return false;
        mprotect(shared_memory + SHARED_PAGES, PAGE, PROT_NONE);
    }
    cuda_host_dynamic_shared = shared_memory + SHARED_PAGES - (bytes + 15) / 16 * 16;
    return true;
}

static void poison(char* start, const char* end) {
    for (; start + 4 <= end; start += 4) memcpy(start, &POISON, 4);
    memset(start, 0x7f, end - start);
}

// --- Faults: the launch fails, the process goes on. ----------------------------------------------

constexpr int SIGNALS[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL};
static struct sigaction old_actions[4];
static stack_t old_stack;
static pid_t launcher;
static size_t shared_bytes;

static bool within(const char* address, const char* start, size_t bytes) {
    return address >= start && address < start + bytes;
}

static void on_fault(int signal, siginfo_t* info, void*) {
    if (gettid() != launcher || !cuda_host_current) {  // not ours: as if we were not there
        for (int i = 0; i < 4; ++i) sigaction(SIGNALS[i], &old_actions[i], nullptr);
        return;
    }
    const char* address = static_cast<const char*>(info->si_addr);
    say_block();
    say_thread();
    if (signal == SIGFPE) {
        say(": division of an integer by zero");
    } else if (signal == SIGILL) {
        say(": an instruction that cannot be");
    } else if (within(address, stacks, stack_count * STRIDE)) {
        say(": the local arrays of the thread are beyond the %zu bytes of its stack", STACK);
    } else if (within(address, shared_memory + SHARED_PAGES, PAGE)) {
        say(": an access beyond the %zu bytes of dynamic shared memory", shared_bytes);
    } else if (info->si_code == SI_KERNEL) {
        say(": an access to no valid address, or a misaligned one");
    } else {
        say(": an access to address %p, where no array is", info->si_addr);
    }
    leave();
}

static void watch_faults() {
    static char signal_stack[65536];
    stack_t stack = {};
    stack.ss_sp = signal_stack;
    stack.ss_size = sizeof signal_stack;
    sigaltstack(&stack, &old_stack);
    struct sigaction action = {};
    action.sa_sigaction = on_fault;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
    for (int i = 0; i < 4; ++i) sigaction(SIGNALS[i], &action, &old_actions[i]);
}

static void unwatch_faults() {
    for (int i = 0; i < 4; ++i) sigaction(SIGNALS[i], &old_actions[i], nullptr);
    sigaltstack(&old_stack, nullptr);
}

// --- The launch. ---------------------------------------------------------------------------------

extern "C" const char* cuda_host_launch(void (*body)(void**), void** arguments,
                                        const unsigned* grid, const unsigned* block,
                                        size_t dynamic_bytes, char* static_start, char* static_end,
                                        bool in_reverse) {
    message[0] = 0;
    message_length = 0;
    thread_count = block[0] * block[1] * block[2];
    if (!have_stacks(thread_count) || !have_shared(dynamic_bytes)) return "no memory for stacks";
    kernel = body;
    kernel_arguments = arguments;
    shared_bytes = dynamic_bytes;
    backwards = in_reverse;
    launcher = gettid();
    cuda_host_grid_dim = {grid[0], grid[1], grid[2]};
    cuda_host_block_dim = {block[0], block[1], block[2]};
    char* dynamic_start = static_cast<char*>(cuda_host_dynamic_shared);
    watch_faults();
    unsigned long long blocks = 1ull * grid[0] * grid[1] * grid[2];
    for (unsigned long long i = 0; i < blocks && !message_length; ++i) {
        unsigned long long b = backwards ? blocks - 1 - i : i;
        cuda_host_block_index = {static_cast<unsigned>(b % grid[0]),
                                 static_cast<unsigned>(b / grid[0] % grid[1]),
                                 static_cast<unsigned>(b / grid[0] / grid[1])};
        poison(static_start, static_end);
        poison(dynamic_start, shared_memory + SHARED_PAGES);
        start_block();
        run_next(nullptr);
    }
    cuda_host_current = nullptr;
    unwatch_faults();
    return message_length ? message : nullptr;
}

}  // namespace cuda_host
