/* Makes this thread, and those it starts, see a CPU without some of its instructions.
 *
 * Libraries choose their kernels by the instruction cpuid. Linux can make it fault, where the CPU
 * has cpuid faulting; what it answers is then ours. Only libraries that are loaded later ask anew.
 */
#define _GNU_SOURCE
#include <asm/prctl.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#define BIT(n) (1u << (n))

enum { EAX, EBX, ECX, EDX };

/* By the level of cpuid's leaf 7; Intel's manual, volume 2A, CPUID. */
static const unsigned avx512[2][4] = {
    {
        [EBX] = BIT(16) | BIT(17) | BIT(21) | BIT(26) | BIT(27) | BIT(28) | BIT(30) | BIT(31),
        [ECX] = BIT(1) | BIT(6) | BIT(11) | BIT(12) | BIT(14),
        [EDX] = BIT(2) | BIT(3) | BIT(8) | BIT(22) | BIT(23) | BIT(24) | BIT(25), /* and AMX */
    },
    {[EAX] = BIT(5) | BIT(21), [EDX] = BIT(8) | BIT(19)},
};
static const unsigned vnni[2][4] = {
    {[ECX] = BIT(11), [EDX] = BIT(24) | BIT(25)},
    {[EAX] = BIT(4) | BIT(23), [EDX] = BIT(4) | BIT(5) | BIT(10)},
};

static unsigned hidden[2][4];

static long may_ask(unsigned long yes) { return syscall(SYS_arch_prctl, ARCH_SET_CPUID, yes); }

static void answer(int number, siginfo_t *info, void *context) {
    greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    const unsigned char *code = (const unsigned char *)registers[REG_RIP];
    unsigned leaf = registers[REG_RAX], subleaf = registers[REG_RCX], out[4];
    (void)info;
    if (code[0] != 0x0f || code[1] != 0xa2) { /* not cpuid: a true fault, which comes again */
        signal(number, SIG_DFL);
        return;
    }
    may_ask(1);
    __asm__ volatile("cpuid"
                     : "=a"(out[EAX]), "=b"(out[EBX]), "=c"(out[ECX]), "=d"(out[EDX])
                     : "a"(leaf), "c"(subleaf));
    may_ask(0);
    if (leaf == 7 && subleaf < 2)
        for (int n = 0; n < 4; n++) out[n] &= ~hidden[subleaf][n];
    registers[REG_RAX] = out[EAX];
    registers[REG_RBX] = out[EBX];
    registers[REG_RCX] = out[ECX];
    registers[REG_RDX] = out[EDX];
    registers[REG_RIP] += 2;
}

/* Returns 0, or not if this system or CPU has no cpuid faulting. */
int hide(int without_avx512, int without_vnni) {
    struct sigaction action;
    for (int n = 0; n < 8; n++) {
        if (without_avx512) hidden[n / 4][n % 4] |= avx512[n / 4][n % 4];
        if (without_vnni) hidden[n / 4][n % 4] |= vnni[n / 4][n % 4];
    }
    memset(&action, 0, sizeof action);
    action.sa_sigaction = answer;
    action.sa_flags = SA_SIGINFO | SA_NODEFER | SA_RESTART;
    if (sigaction(SIGSEGV, &action, NULL)) return -1;
    return (int)may_ask(0);
}
