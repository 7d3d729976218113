// The threads of CUDA kernels as fibres on the processor: blocks, barriers, and waiting for each other.
// For cuda_on_host.hpp, which says what it is for.
#pragma once

#ifdef __CUDACC__
#error "this header is for the host's compiler"
#endif

#include <sys/mman.h>
#include <ucontext.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <functional>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#if defined(__SANITIZE_THREAD__)
#define CUDA_ON_HOST_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define CUDA_ON_HOST_TSAN 1
#endif
#endif
#ifdef CUDA_ON_HOST_TSAN
extern "C" {
void* __tsan_get_current_fiber();
void* __tsan_create_fiber(unsigned flags);
void __tsan_destroy_fiber(void* fiber);
void __tsan_switch_to_fiber(void* fiber, unsigned flags);
void __tsan_acquire(void* address);
void __tsan_release(void* address);
void AnnotateIgnoreReadsBegin(const char* file, int line);
void AnnotateIgnoreReadsEnd(const char* file, int line);
void AnnotateIgnoreWritesBegin(const char* file, int line);
void AnnotateIgnoreWritesEnd(const char* file, int line);
}
#endif

struct uint3 {
    unsigned x, y, z;
};

struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

using cudaStream_t = void*;

inline uint3 threadIdx, blockIdx;
inline dim3 blockDim, gridDim;
constexpr int warpSize = 32;

namespace cuda_on_host {

struct KernelError : std::runtime_error {
    using std::runtime_error::runtime_error;
};

// 0: blocks and threads in ascending order. Others: shuffled, each in its own way.
inline std::uint64_t seed = 0;

// Where in a source a thread waits.
struct Site {
    const char* file;
    int line;
    static Site here(const char* file = __builtin_FILE(), int line = __builtin_LINE()) { return {file, line}; }
    std::string text() const {
        const char* name = std::strrchr(file, '/');
        return std::string(name ? name + 1 : file) + ":" + std::to_string(line);
    }
};

enum class State { ready, at_barrier, in_warp, done };

struct Fibre {
    ucontext_t context;
    uint3 thread;
    unsigned number;  // in its block
    State state = State::ready;
    Site site{"", 0};
    const char* call = "";  // the warp's call it waits in
    unsigned mask = 0;
    std::uint64_t given = 0;
    std::uint64_t heard[32];  // what each lane gave
    std::exception_ptr error;
    // For ThreadSanitizer: what it knows the thread by; the thread's marks, which it uses in turn; the marks of lanes.
    void* watched = nullptr;
    char* marks = nullptr;
    unsigned barriers = 0, calls = 0;
    char* heard_marks[32];
};

// ThreadSanitizer orders what came before a mark in one thread before what comes after it in another.
inline void order_before([[maybe_unused]] char* mark) {
#ifdef CUDA_ON_HOST_TSAN
    __tsan_release(mark);
#endif
}

inline void order_after([[maybe_unused]] char* mark) {
#ifdef CUDA_ON_HOST_TSAN
    __tsan_acquire(mark);
#endif
}

// While it lives, ThreadSanitizer looks away: what happens is this header's own business.
struct Unwatched {
#ifdef CUDA_ON_HOST_TSAN
    Unwatched() {
        AnnotateIgnoreReadsBegin(__FILE__, __LINE__);
        AnnotateIgnoreWritesBegin(__FILE__, __LINE__);
    }
    ~Unwatched() {
        AnnotateIgnoreWritesEnd(__FILE__, __LINE__);
        AnnotateIgnoreReadsEnd(__FILE__, __LINE__);
    }
#else
    Unwatched() {}
#endif
};

// Stacks with a page below that may not be touched. They are kept for all launches, but for ThreadSanitizer, which would
// take the stacks of two threads for shared memory.
class Stacks {
  public:
    static constexpr std::size_t size = 256 << 10, guard = 64 << 10;
    char* get(std::size_t number) {
#ifdef CUDA_ON_HOST_TSAN
        for (char* stack : number == 0 ? std::exchange(all_, {}) : std::vector<char*>())
            munmap(stack - guard, guard + size);
#endif
        while (all_.size() <= number) {
            void* memory = mmap(nullptr, guard + size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
            if (memory == MAP_FAILED) throw std::bad_alloc();
            char* stack = static_cast<char*>(memory) + guard;
            if (mprotect(stack, size, PROT_READ | PROT_WRITE) != 0) throw std::bad_alloc();
            all_.push_back(stack);
        }
        return all_[number];
    }

  private:
    std::vector<char*> all_;
};

class Launch {
  public:
    static inline Launch* now = nullptr;

    Launch(dim3 grid, dim3 block, std::function<void()> body) : body_(std::move(body)), random_(seed) {
        const Unwatched guard;
        const std::uint64_t threads = std::uint64_t{block.x} * block.y * block.z;
        if (threads == 0 || threads > 1024 || block.z > 64 || grid.x == 0 || grid.y == 0 || grid.z == 0 ||
            grid.x > 0x7fffffffu || grid.y > 65535 || grid.z > 65535)
            throw KernelError("a launch with these sizes of grid and block is refused by CUDA");
        gridDim = grid;
        blockDim = block;
        fibres_.resize(threads);
    }

    void run() {
        const Unwatched guard;
        if (now) throw KernelError("a kernel starts a kernel");
        now = this;
        try {
            order_before(&begin_);
            std::vector<std::uint64_t> blocks(std::uint64_t{gridDim.x} * gridDim.y * gridDim.z);
            for (std::uint64_t i = 0; i < blocks.size(); ++i) blocks[i] = i;
            shuffle(blocks);
            for (const std::uint64_t number : blocks) run_block(number);
            order_after(&end_);
        } catch (...) {
            now = nullptr;
            throw;
        }
        now = nullptr;
    }

    // The rest is called by threads.
    Fibre& self() { return *current_; }
    std::uint64_t block() const { return block_; }

    // Marks are used in turn: the next barrier must not order what came before this one.
    char* barrier_mark() { return barrier_marks_ + current_->barriers % 2; }

    void wait(State state, Site site) {
        current_->state = state;
        current_->site = site;
        leave();
    }

    // With a seed, every fourth time another thread comes first.
    void maybe_step_back() {
        if (seed != 0 && next() % 4 == 0) leave();
    }

    void* fresh(std::size_t bytes) {
        memory_.emplace_back(new unsigned char[bytes]);
        std::memset(memory_.back().get(), 0xff, bytes);
        return memory_.back().get();
    }

  private:
    void run_block(std::uint64_t number) {
        ++block_;
        barrier_marks_ = static_cast<char*>(fresh(2));
        blockIdx = {static_cast<unsigned>(number % gridDim.x), static_cast<unsigned>(number / gridDim.x % gridDim.y),
                    static_cast<unsigned>(number / gridDim.x / gridDim.y)};
        for (unsigned i = 0; i < fibres_.size(); ++i) start(i);
        std::vector<Fibre*> ready;
        for (;;) {
            ready.clear();
            bool all_done = true;
            for (Fibre& fibre : fibres_) {
                all_done = all_done && fibre.state == State::done;
                if (fibre.state == State::ready) ready.push_back(&fibre);
            }
            if (all_done) break;
            if (ready.empty()) {
                open_barrier();
                continue;
            }
            shuffle(ready);
            for (Fibre* fibre : ready) {
                enter(*fibre);
                if (fibre->error) std::rethrow_exception(fibre->error);
                if (fibre->state == State::in_warp) meet(*fibre);
            }
        }
#ifdef CUDA_ON_HOST_TSAN
        for (Fibre& fibre : fibres_) __tsan_destroy_fiber(fibre.watched);
#endif
    }

    void start(unsigned number) {
        static Stacks stacks;
        Fibre& fibre = fibres_[number] = Fibre();
        fibre.number = number;
        fibre.thread = {number % blockDim.x, number / blockDim.x % blockDim.y, number / blockDim.x / blockDim.y};
        getcontext(&fibre.context);
        fibre.context.uc_stack.ss_sp = stacks.get(number);
        fibre.context.uc_stack.ss_size = Stacks::size;
        fibre.context.uc_link = nullptr;
        makecontext(&fibre.context, &Launch::thread_main, 0);
#ifdef CUDA_ON_HOST_TSAN
        fibre.watched = __tsan_create_fiber(0);
        fibre.marks = static_cast<char*>(fresh(2));
#endif
    }

    static void thread_main() {
        order_after(&begin_);
        try {
            now->body_();
        } catch (...) {
            const Unwatched guard;
            now->current_->error = std::current_exception();
        }
        order_before(&end_);
        {
            const Unwatched guard;
            now->current_->state = State::done;
        }
        now->leave();  // for ever; ThreadSanitizer wants a thread to end watched
    }

    void enter(Fibre& fibre) {
        current_ = &fibre;
        threadIdx = fibre.thread;
#ifdef CUDA_ON_HOST_TSAN
        home_watched_ = __tsan_get_current_fiber();
        __tsan_switch_to_fiber(fibre.watched, 1);  // 1: one is not ordered after the other by the switch
#endif
        swapcontext(&home_, &fibre.context);
    }

    void leave() {
        Fibre& fibre = *current_;
#ifdef CUDA_ON_HOST_TSAN
        __tsan_switch_to_fiber(home_watched_, 1);
#endif
        swapcontext(&fibre.context, &home_);
    }

    // A warp's call is answered as soon as all lanes of its mask have made it.
    void meet(Fibre& fibre) {
        const unsigned first = fibre.number / 32 * 32;
        for (unsigned lane = 0; lane < 32; ++lane) {
            if (!(fibre.mask >> lane & 1)) continue;
            if (first + lane >= fibres_.size()) refuse(fibre, lane, "the block does not have");
            const Fibre& other = fibres_[first + lane];
            if (other.state == State::done) refuse(fibre, lane, "has ended");
            if (other.state != State::in_warp || other.mask != fibre.mask || std::strcmp(other.call, fibre.call) != 0) return;
        }
        for (unsigned lane = 0; lane < 32; ++lane) {
            if (!(fibre.mask >> lane & 1)) continue;
            Fibre& hearer = fibres_[first + lane];
            for (unsigned k = 0; k < 32; ++k) {
                const bool gave = fibre.mask >> k & 1;
                hearer.heard[k] = gave ? fibres_[first + k].given : ~std::uint64_t{0};
                hearer.heard_marks[k] = gave ? fibres_[first + k].marks + fibres_[first + k].calls % 2 : nullptr;
            }
            hearer.state = State::ready;
        }
    }

    [[noreturn]] static void refuse(const Fibre& fibre, unsigned lane, const std::string& why) {
        throw KernelError(std::string(fibre.call) + " at " + fibre.site.text() + ": thread " + std::to_string(fibre.number) +
                          " waits for lane " + std::to_string(lane) + " of its warp, which " + why);
    }

    // Nobody can go on: all threads wait at one barrier, or the kernel is wrong.
    void open_barrier() {
        std::size_t arrived = 0, ended = 0;
        const Fibre* one = nullptr;
        for (const Fibre& fibre : fibres_) {
            if (fibre.state == State::in_warp) explain(fibre);
            if (fibre.state == State::done) ++ended;
            if (fibre.state != State::at_barrier) continue;
            ++arrived;
            if (!one) one = &fibre;
            if (fibre.site.text() != one->site.text())
                throw KernelError("threads of one block wait at different barriers: " + one->site.text() + " and " +
                                  fibre.site.text());
        }
        if (ended > 0)
            throw KernelError("__syncthreads at " + one->site.text() + " was reached by " + std::to_string(arrived) + " of " +
                              std::to_string(fibres_.size()) + " threads, the others have ended");
        for (Fibre& fibre : fibres_) fibre.state = State::ready;
    }

    [[noreturn]] void explain(const Fibre& fibre) const {
        const unsigned first = fibre.number / 32 * 32;
        for (unsigned lane = 0; lane < 32; ++lane) {
            if (!(fibre.mask >> lane & 1)) continue;
            const Fibre& other = fibres_[first + lane];
            if (other.state == State::done) refuse(fibre, lane, "has ended");
            if (other.state == State::at_barrier) refuse(fibre, lane, "waits at the barrier at " + other.site.text());
            if (std::strcmp(other.call, fibre.call) != 0 || other.mask != fibre.mask)
                refuse(fibre, lane, "waits in " + std::string(other.call) + " at " + other.site.text() + " for other lanes");
        }
        std::abort();  // such a call has been answered
    }

    template <class T>
    void shuffle(std::vector<T>& values) {
        if (seed == 0) return;
        for (std::size_t i = values.size(); i > 1; --i) std::swap(values[i - 1], values[next() % i]);
    }

    // splitmix64 (Steele, Lea and Flood, OOPSLA 2014).
    std::uint64_t next() {
        std::uint64_t z = random_ += 0x9e3779b97f4a7c15u;
        z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
        z = (z ^ z >> 27) * 0x94d049bb133111ebu;
        return z ^ z >> 31;
    }

    std::function<void()> body_;
    std::uint64_t random_;
    std::vector<Fibre> fibres_;
    std::vector<std::unique_ptr<unsigned char[]>> memory_;
    static inline char begin_, end_;
    char* barrier_marks_ = nullptr;
    ucontext_t home_;
    // Static: threads that have ended may have read them last, and nothing orders that before the next launch.
    static inline void* home_watched_ = nullptr;
    static inline Fibre* current_ = nullptr;
    static inline std::uint64_t block_ = 0;  // counts the blocks of all launches
};

}  // namespace cuda_on_host
