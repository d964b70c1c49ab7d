// CUDA C on the CPU: what a kernel sees.
//
// Included in front of real CUDA C source, this header makes g++ compile it unchanged. The threads
// of a block are fibers (runtime.cpp): one runs until it waits for others, and what it waits for is
// written in its `Thread`. Device functions that fuse or round on their own terms do so here too.
#pragma once

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <type_traits>
#include <utility>

#ifndef CUDA_HOST_RUNTIME
#define __CUDACC__ 1
#define __CUDACC_RTC__ 1
#define __CUDA_ARCH__ 900
#endif

#define __global__
#define __device__
#define __host__
#define __constant__
#define __managed__
#define __grid_constant__
#define __launch_bounds__(...)
#define __align__(bytes) __attribute__((aligned(bytes)))
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
// One section for all static shared variables, so that they can be poisoned before every block.
// The source is compiled in an unnamed namespace, or g++ would ignore this inside of templates.
#define __shared__ static __attribute__((section("cuda_shared")))

struct uint3 { unsigned x, y, z; };
struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

namespace cuda_host {

enum Operation {
    SHUFFLE_INDEX, SHUFFLE_UP, SHUFFLE_DOWN, SHUFFLE_XOR, ANY, ALL, BALLOT, SYNC_WARP,
    SYNC, SYNC_OR, SYNC_AND, SYNC_COUNT,
};

enum State { READY, WAITS_FOR_WARP, WAITS_FOR_BLOCK, RETURNED };

// A thread of the block that runs, and the operation at which it meets others.
struct Thread {
    uint3 index;
    int number;  // in the block, x fastest
    unsigned lane;
    State state;
    Operation operation;
    int line;
    unsigned mask;
    int argument, width;
    unsigned long long value, result;
    void* stack_pointer;
};

extern "C" {
extern Thread* cuda_host_current;
extern uint3 cuda_host_block_index;
extern dim3 cuda_host_block_dim, cuda_host_grid_dim;
extern void* cuda_host_dynamic_shared;
void cuda_host_meet_warp();
void cuda_host_meet_block();
[[noreturn]] void cuda_host_fail(const char* what, int line);
}

inline unsigned long long meet(Operation operation, int line, unsigned mask,
                               unsigned long long value, int argument = 0, int width = 32) {
    Thread& self = *cuda_host_current;
    self.operation = operation;
    self.line = line;
    self.mask = mask;
    self.value = value;
    self.argument = argument;
    self.width = width;
    if (operation < SYNC) cuda_host_meet_warp();
    else cuda_host_meet_block();
    return self.result;
}

template <class T>
inline T shuffle(Operation operation, int line, unsigned mask, T value, int argument, int width) {
    unsigned long long bits = 0;
    memcpy(&bits, &value, sizeof(T));
    bits = meet(operation, line, mask, bits, argument, width);
    memcpy(&value, &bits, sizeof(T));
    return value;
}

// A value that the compiler cannot fuse with what made it or with what is made of it.
template <class T>
inline T rounded(T value) {
#if defined(__x86_64__)
    asm("" : "+x"(value));
#elif defined(__aarch64__)
    asm("" : "+w"(value));
#else
    asm("" : "+m"(value));
#endif
    return value;
}

template <class To, class From>
inline To bits_as(From value) {
    static_assert(sizeof(To) == sizeof(From));
    To result;
    memcpy(&result, &value, sizeof(To));
    return result;
}

// --- How a kernel is called: its parameters, read from its type. -------------------------------

struct Parameter {
    char kind, pointee_kind;  // p: pointer, f: floating, i: integer, v: void, o: other
    int size, pointee_size;
    bool readonly;
    const char* type;
};

template <class T>
constexpr char kind() {
    return std::is_pointer_v<T>          ? 'p'
           : std::is_floating_point_v<T> ? 'f'
           : std::is_integral_v<T>       ? 'i'
           : std::is_void_v<T>           ? 'v'
                                         : 'o';
}

template <class T>
constexpr int size() {
    if constexpr (std::is_void_v<T> || std::is_function_v<T>) return 0;
    else return sizeof(T);
}

template <class T>
const char* type_name() { return __PRETTY_FUNCTION__; }

template <class T>
Parameter parameter() {
    using Pointee = std::remove_pointer_t<T>;
    return {kind<T>(), kind<std::remove_cv_t<Pointee>>(), size<T>(), size<Pointee>(),
            std::is_const_v<Pointee>, type_name<T>()};
}

template <class... P>
int describe(void (*)(P...), Parameter* out) {
    if (out) {
        int i = 0;
        (void)i;
        ((out[i++] = parameter<P>()), ...);
    }
    return sizeof...(P);
}

template <class... P, size_t... I>
void call(void (*kernel)(P...), void** arguments, std::index_sequence<I...>) {
    (void)arguments;
    kernel(*static_cast<std::remove_reference_t<P>*>(arguments[I])...);
}

template <class... P>
void call(void (*kernel)(P...), void** arguments) {
    call(kernel, arguments, std::index_sequence_for<P...>());
}

}  // namespace cuda_host

#ifndef CUDA_HOST_RUNTIME

#define threadIdx (::cuda_host::cuda_host_current->index)
#define blockIdx (::cuda_host::cuda_host_block_index)
#define blockDim (::cuda_host::cuda_host_block_dim)
#define gridDim (::cuda_host::cuda_host_grid_dim)
static const int warpSize = 32;

// --- Meeting other threads. ---------------------------------------------------------------------

inline void __syncthreads(int line = __builtin_LINE()) {
    cuda_host::meet(cuda_host::SYNC, line, 0, 0);
}
inline int __syncthreads_or(int predicate, int line = __builtin_LINE()) {
    return cuda_host::meet(cuda_host::SYNC_OR, line, 0, predicate != 0);
}
inline int __syncthreads_and(int predicate, int line = __builtin_LINE()) {
    return cuda_host::meet(cuda_host::SYNC_AND, line, 0, predicate != 0);
}
inline int __syncthreads_count(int predicate, int line = __builtin_LINE()) {
    return cuda_host::meet(cuda_host::SYNC_COUNT, line, 0, predicate != 0);
}
inline void __syncwarp(unsigned mask = 0xffffffffu, int line = __builtin_LINE()) {
    cuda_host::meet(cuda_host::SYNC_WARP, line, mask, 0);
}
inline int __any_sync(unsigned mask, int predicate, int line = __builtin_LINE()) {
    return cuda_host::meet(cuda_host::ANY, line, mask, predicate != 0);
}
inline int __all_sync(unsigned mask, int predicate, int line = __builtin_LINE()) {
    return cuda_host::meet(cuda_host::ALL, line, mask, predicate != 0);
}
inline unsigned __ballot_sync(unsigned mask, int predicate, int line = __builtin_LINE()) {
    return cuda_host::meet(cuda_host::BALLOT, line, mask, predicate != 0);
}
// The lanes that have not returned: fibers cannot tell which of them are at the same instruction.
extern "C" unsigned cuda_host_alive_lanes();
inline unsigned __activemask() { return cuda_host_alive_lanes(); }

#define CUDA_HOST_SHUFFLES(T)                                                                     \
    inline T __shfl_sync(unsigned mask, T value, int lane, int width = 32,                        \
                         int line = __builtin_LINE()) {                                           \
        return cuda_host::shuffle(cuda_host::SHUFFLE_INDEX, line, mask, value, lane, width);      \
    }                                                                                             \
    inline T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32,               \
                            int line = __builtin_LINE()) {                                        \
        return cuda_host::shuffle(cuda_host::SHUFFLE_UP, line, mask, value, delta, width);        \
    }                                                                                             \
    inline T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32,             \
                              int line = __builtin_LINE()) {                                      \
        return cuda_host::shuffle(cuda_host::SHUFFLE_DOWN, line, mask, value, delta, width);      \
    }                                                                                             \
    inline T __shfl_xor_sync(unsigned mask, T value, int lanes, int width = 32,                   \
                             int line = __builtin_LINE()) {                                       \
        return cuda_host::shuffle(cuda_host::SHUFFLE_XOR, line, mask, value, lanes, width);       \
    }
CUDA_HOST_SHUFFLES(int)
CUDA_HOST_SHUFFLES(unsigned)
CUDA_HOST_SHUFFLES(long)
CUDA_HOST_SHUFFLES(unsigned long)
CUDA_HOST_SHUFFLES(long long)
CUDA_HOST_SHUFFLES(unsigned long long)
CUDA_HOST_SHUFFLES(float)
CUDA_HOST_SHUFFLES(double)

inline void __threadfence() {}
inline void __threadfence_block() {}
inline void __threadfence_system() {}

// --- Memory. A fiber is never interrupted, so plain reads and writes are atomic. ----------------

template <class T>
inline T __ldg(const T* pointer) { return *pointer; }

#define CUDA_HOST_ATOMIC(name, T, expression)                                                     \
    inline T name(T* address, T value) {                                                          \
        T old = *address;                                                                         \
        *address = expression;                                                                    \
        return old;                                                                               \
    }
#define CUDA_HOST_ATOMICS_OF_INTEGERS(T)                                                          \
    CUDA_HOST_ATOMIC(atomicExch, T, value)                                                        \
    CUDA_HOST_ATOMIC(atomicMin, T, value < old ? value : old)                                     \
    CUDA_HOST_ATOMIC(atomicMax, T, value > old ? value : old)                                     \
    CUDA_HOST_ATOMIC(atomicAnd, T, old& value)                                                    \
    CUDA_HOST_ATOMIC(atomicOr, T, old | value)                                                    \
    CUDA_HOST_ATOMIC(atomicXor, T, old ^ value)                                                   \
    inline T atomicCAS(T* address, T expected, T value) {                                         \
        T old = *address;                                                                         \
        if (old == expected) *address = value;                                                    \
        return old;                                                                               \
    }
CUDA_HOST_ATOMICS_OF_INTEGERS(int)
CUDA_HOST_ATOMICS_OF_INTEGERS(unsigned)
CUDA_HOST_ATOMICS_OF_INTEGERS(unsigned long long)
CUDA_HOST_ATOMIC(atomicMin, long long, value < old ? value : old)
CUDA_HOST_ATOMIC(atomicMax, long long, value > old ? value : old)
CUDA_HOST_ATOMIC(atomicExch, float, value)
CUDA_HOST_ATOMIC(atomicAdd, int, old + value)
CUDA_HOST_ATOMIC(atomicAdd, unsigned, old + value)
CUDA_HOST_ATOMIC(atomicAdd, unsigned long long, old + value)
CUDA_HOST_ATOMIC(atomicAdd, float, old + value)
CUDA_HOST_ATOMIC(atomicAdd, double, old + value)
CUDA_HOST_ATOMIC(atomicSub, int, old - value)
CUDA_HOST_ATOMIC(atomicSub, unsigned, old - value)

// --- Arithmetic. ---------------------------------------------------------------------------------

#define CUDA_HOST_ROUNDED(name, T, operator_)                                                     \
    inline T name(T a, T b) {                                                                     \
        return cuda_host::rounded(cuda_host::rounded(a) operator_ cuda_host::rounded(b));         \
    }
CUDA_HOST_ROUNDED(__dadd_rn, double, +)
CUDA_HOST_ROUNDED(__dsub_rn, double, -)
CUDA_HOST_ROUNDED(__dmul_rn, double, *)
CUDA_HOST_ROUNDED(__ddiv_rn, double, /)
CUDA_HOST_ROUNDED(__fadd_rn, float, +)
CUDA_HOST_ROUNDED(__fsub_rn, float, -)
CUDA_HOST_ROUNDED(__fmul_rn, float, *)
CUDA_HOST_ROUNDED(__fdiv_rn, float, /)
inline double __fma_rn(double a, double b, double c) { return __builtin_fma(a, b, c); }
inline float __fmaf_rn(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
inline double __dsqrt_rn(double a) { return __builtin_sqrt(a); }
inline float __fsqrt_rn(float a) { return __builtin_sqrtf(a); }
inline double __drcp_rn(double a) { return 1.0 / a; }
inline float __frcp_rn(float a) { return 1.0f / a; }
inline double rsqrt(double a) { return 1.0 / __builtin_sqrt(a); }
inline float rsqrt(float a) { return 1.0f / __builtin_sqrtf(a); }
inline float rsqrtf(float a) { return 1.0f / __builtin_sqrtf(a); }
inline float __saturatef(float a) { return a > 0.0f ? (a < 1.0f ? a : 1.0f) : 0.0f; }
inline float __expf(float a) { return __builtin_expf(a); }
inline float __logf(float a) { return __builtin_logf(a); }
inline float __powf(float a, float b) { return __builtin_powf(a, b); }
inline float __fdividef(float a, float b) { return a / b; }

// The smaller and the larger of two numbers, in the overloads that CUDA has.
#define CUDA_HOST_EXTREMES_OF_INTEGERS(T)                                                         \
    inline T min(T a, T b) { return b < a ? b : a; }                                              \
    inline T max(T a, T b) { return a < b ? b : a; }
CUDA_HOST_EXTREMES_OF_INTEGERS(int)
CUDA_HOST_EXTREMES_OF_INTEGERS(unsigned)
CUDA_HOST_EXTREMES_OF_INTEGERS(long)
CUDA_HOST_EXTREMES_OF_INTEGERS(unsigned long)
CUDA_HOST_EXTREMES_OF_INTEGERS(long long)
CUDA_HOST_EXTREMES_OF_INTEGERS(unsigned long long)
inline unsigned min(int a, unsigned b) { return min(static_cast<unsigned>(a), b); }
inline unsigned min(unsigned a, int b) { return min(a, static_cast<unsigned>(b)); }
inline unsigned max(int a, unsigned b) { return max(static_cast<unsigned>(a), b); }
inline unsigned max(unsigned a, int b) { return max(a, static_cast<unsigned>(b)); }
inline float min(float a, float b) { return __builtin_fminf(a, b); }
inline float max(float a, float b) { return __builtin_fmaxf(a, b); }
inline double min(double a, double b) { return __builtin_fmin(a, b); }
inline double max(double a, double b) { return __builtin_fmax(a, b); }
inline double min(float a, double b) { return __builtin_fmin(a, b); }
inline double min(double a, float b) { return __builtin_fmin(a, b); }
inline double max(float a, double b) { return __builtin_fmax(a, b); }
inline double max(double a, float b) { return __builtin_fmax(a, b); }

inline int __float_as_int(float a) { return cuda_host::bits_as<int>(a); }
inline unsigned __float_as_uint(float a) { return cuda_host::bits_as<unsigned>(a); }
inline float __int_as_float(int a) { return cuda_host::bits_as<float>(a); }
inline float __uint_as_float(unsigned a) { return cuda_host::bits_as<float>(a); }
inline long long __double_as_longlong(double a) { return cuda_host::bits_as<long long>(a); }
inline double __longlong_as_double(long long a) { return cuda_host::bits_as<double>(a); }
inline int __double2hiint(double a) { return static_cast<int>(__double_as_longlong(a) >> 32); }
inline int __double2loint(double a) { return static_cast<int>(__double_as_longlong(a)); }
inline double __hiloint2double(int high, int low) {
    return __longlong_as_double(static_cast<long long>(
        static_cast<unsigned long long>(static_cast<unsigned>(high)) << 32 |
        static_cast<unsigned>(low)));
}
inline int __popc(unsigned a) { return __builtin_popcount(a); }
inline int __popcll(unsigned long long a) { return __builtin_popcountll(a); }
inline int __clz(int a) { return a ? __builtin_clz(a) : 32; }
inline int __clzll(long long a) { return a ? __builtin_clzll(a) : 64; }
inline int __ffs(int a) { return __builtin_ffs(a); }
inline int __ffsll(long long a) { return __builtin_ffsll(a); }
inline int __mulhi(int a, int b) { return static_cast<long long>(a) * b >> 32; }
inline unsigned __umulhi(unsigned a, unsigned b) {
    return static_cast<unsigned long long>(a) * b >> 32;
}
inline long long __mul64hi(long long a, long long b) {
    return static_cast<__int128>(a) * b >> 64;
}
inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
    return static_cast<unsigned __int128>(a) * b >> 64;
}

// --- Small vectors, aligned as on the device. ----------------------------------------------------

#define CUDA_HOST_VECTORS(T, name)                                                                \
    struct __align__(2 * sizeof(T)) name##2 { T x, y; };                                          \
    struct name##3 { T x, y, z; };                                                                \
    struct __align__(16) name##4 { T x, y, z, w; };                                               \
    inline name##2 make_##name##2(T x, T y) { return {x, y}; }                                    \
    inline name##3 make_##name##3(T x, T y, T z) { return {x, y, z}; }                            \
    inline name##4 make_##name##4(T x, T y, T z, T w) { return {x, y, z, w}; }
CUDA_HOST_VECTORS(int, int)
CUDA_HOST_VECTORS(float, float)
CUDA_HOST_VECTORS(double, double)
CUDA_HOST_VECTORS(long long, longlong)

#undef assert
#define assert(condition) \
    ((condition) ? (void)0 : ::cuda_host::cuda_host_fail("assert(" #condition ")", __LINE__))
#define __trap() ::cuda_host::cuda_host_fail("__trap()", __LINE__)
#define __builtin_assume(condition) ((void)0)

#endif
