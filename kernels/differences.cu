// The frame of a generated kernel: changes of the loss for many perturbed copies at a time.
//
// Twin of the function that `fastcheck/fusion/llvm.py` prints for the CPU: the same name, the same
// arguments, the same arrays in the same layout (`fastcheck/fusion/layout.py`). What stands between
// the marks below is written by `fastcheck/fusion/cuda.py` for each kind of network: `change`, for
// one copy.
//
// A *team* of threads works on a copy. It has `parts` rows of LANES threads (parts and LANES are
// powers of two): a thread's lane is its place in a block of LANES samples, and the rows take the
// blocks in turns. So loads are coalesced along the samples, and few copies with many samples fill
// a device as well as many copies with few. Only sums over samples need the others of the team; all
// threads of a block come to these in step, which `total` and `anywhere` rely upon.
//
// The preamble defines Real (double or float), LANES (8, or 1 where nothing runs along samples) and
// THREADS, those of a block.

typedef long long Index;

#define WARPS (THREADS / 32)

struct Team {
    int lane;    // place in a block of samples
    int part;    // row: takes blocks part, part + parts, ...
    int parts;
    int size;    // threads: parts * LANES, at most those of a block
    int member;  // this thread's number in the team
    Real *board; // in shared memory: WARPS numbers for the teams of a block
};

// Adds a number up over a team, in the same order whatever its copy is; every thread has the sum.
__device__ __forceinline__ Real total(const Team &team, Real x)
{
    const int near = team.size < 32 ? team.size : 32;
    for (int d = near / 2; d > 0; d /= 2)
        x += __shfl_xor_sync(0xffffffffu, x, d);
    if (team.size <= 32)
        return x;
    __syncthreads(); // the board may still be read for the sum before
    const int warp = threadIdx.x / 32;
    if (threadIdx.x % 32 == 0)
        team.board[warp] = x;
    __syncthreads();
    const int warps = team.size / 32, first = warp - team.member / 32;
    Real sum = 0;
    for (int w = 0; w < warps; ++w)
        sum += team.board[first + w];
    return sum;
}

// Whether a condition holds for any thread of a team.
__device__ __forceinline__ bool anywhere(const Team &team, bool condition)
{
    return total(team, condition ? (Real)1 : (Real)0) > (Real)0;
}

//@ generated: `change`

// Copies first to last − 1, a team each. THREADS is a multiple of 32 and of the team's size.
extern "C" __global__ void __launch_bounds__(THREADS) differences(
    const void *const *__restrict__ arrays, const Index *__restrict__ strides,
    const void *const *__restrict__ positions, const Index *__restrict__ lengths,
    const void *const *__restrict__ blocks, const Real *__restrict__ steps,
    Real *__restrict__ plus, Real *__restrict__ minus, unsigned char *__restrict__ refused,
    Index first, Index last, Index parts)
{
    __shared__ Real board[WARPS];
    const int size = (int)parts * LANES, member = threadIdx.x % size;
    const Team team = {member % LANES, member / LANES, (int)parts, size, member, board};
    const Index teams = THREADS / size;
    const Index place = first + blockIdx.x * teams + threadIdx.x / size;
    // Teams past the end go along with the last copy: they are waited for in sums.
    const Index copy = place < last ? place : last - 1;
    Real up = 0, down = 0;
    bool out = false;
    change(team, arrays, strides, positions, lengths, blocks, steps, copy, up, down, out);
    if (place < last && member == 0) {
        plus[copy] = up;
        minus[copy] = down;
        refused[copy] = out ? 1 : 0;
    }
}
