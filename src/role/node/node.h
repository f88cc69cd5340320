/* SPDX-License-Identifier: Apache-2.0 */
/*
 * node: the process that starts, watches and restarts everything of an instance on this machine.
 *
 *     node_main.c     arguments, and the life of the process
 *     node_options.c  arguments read; usable cores counted
 *     node.c          what the instance has here: sockets, directory; its beginning and its end
 *     node_role.c     the controller and the proxies: started, restarted with a back-off
 *     node_replica.c  replicas: started and ended for the controller; their exits
 *     node_words.c    what a replica writes to stderr: passed on, and its end kept
 *     node_program.c  what is executed for a replica: program, arguments, environment
 *     node_zygote.c   warm interpreters that fork replicas; node_zygote_link.c: what is said to them
 *     node_desk.c     node.sock: the controller's frames
 *     node_return.c   processes of an earlier node of a service: found, taken back or ended
 *
 * The node decides nothing about applications.  It holds the listening sockets, so that neither a
 * proxy's nor the controller's death loses a connection that waits in their queues.  Nor does its
 * own, in a service: there the others keep the sockets for the node that comes after it.
 */
#ifndef MANTA_ROLE_NODE_H
#define MANTA_ROLE_NODE_H

#include <stdbool.h>
#include <stdint.h>

#include "channel.h"
#include "child.h"
#include "instance.h"
#include "list.h"
#include "loop.h"
#include "map.h"
#include "page.h"
#include "settings.h"
#include "wire.h"

enum {
    NODE_PROXY_LIMIT = 64,
    NODE_PATH_SIZE = 4096,
    NODE_WORDS_SIZE = 2048,   /* of a replica's stderr, told when it ends */
    NODE_UNTOLD_LIMIT = 1024, /* exits kept while no controller listens; past it the oldest go */
    NODE_GUEST_LIMIT = 64,    /* connections to node.sock */
    NODE_ZYGOTE_KEY_SIZE = 72,
    NODE_ARGUMENT_LIMIT = 32,
    NODE_START_ATTEMPTS = 5,  /* of the controller, before the instance counts as not started */
    NODE_LISTEN_BACKLOG = 4096,
};

struct node_options {
    const char *name, *http_host, *log_directory, *log_encoding;
    const char *zygote_key;                    /* of the zygote that was forked before us */
    int zygote_descriptor, zygote_process;     /* -1: none */
    int parent_descriptor;                     /* -1: none */
    int http_port;                             /* -1: no HTTP; 0: any free one */
    int proxies;                               /* 0: by usable cores */
    int log_level;                             /* enum log_level */
    int64_t request_timeout_ms, keep_alive_ms; /* -1: not given */
    bool log_to_stderr, is_private;
};

/* Each phase ends when what it waits for is gone, or when its time is over. */
enum node_phase {
    NODE_STARTING, /* waits for the controller */
    NODE_SERVING,
    NODE_DRAINING, /* proxies finish what they have */
    NODE_ENDING,   /* the others were told to end */
    NODE_KILLING,
};

struct node;

/* The controller, or a proxy.  Restarted for as long as the instance lives. */
struct node_role {
    struct node *node;
    struct child child;
    struct loop_timer again; /* set while it waits for its next start */
    int number;              /* 0: the controller; proxies count from 1 */
    bool running;
    bool claimed; /* an earlier node's, and it has not spoken to this one */
    bool retired; /* of more proxies than are wanted now: it ends and stays away */
    int64_t started_ns;
    int64_t pause_ms; /* before the next start */
    uint32_t starts;  /* so far */
    uint32_t deaths;
    bool hopeless; /* it ended with status 2: the next attempt would find the same */
};

/* What a replica is to be started with; gone once its process runs. */
struct node_order {
    struct page document;
    char *runner; /* "c", or "python:" and the path of an interpreter */
    uint64_t version;
    int words; /* the end that becomes its stderr */
};

/* On node->replicas from its start until the controller was told of its end. */
struct node_replica {
    struct list_link untold_link; /* on node->untold: ended, and nobody was told */
    struct list_link fork_link;   /* on a list of its zygote, while that has not made it */
    struct node_order *order;     /* null: it was started */
    struct node_zygote *zygote;   /* which is kept for it; null: none */
    bool unwanted;                /* its end was asked for before it began */
    struct node *node;
    uint64_t id;
    char *app, *deployment;
    struct child child;
    bool running;
    bool claimed; /* as a role's */
    uint32_t pid;
    int exit_code, signal_number;
    int words_descriptor; /* our end of its stderr; -1: closed */
    struct loop_watch words_watch;
    struct loop_timer words_timer; /* set while our own stderr takes nothing */
    char words[NODE_WORDS_SIZE];   /* the end of what it wrote */
    size_t words_size;
    bool words_cut; /* there was more before */
};

/* A connection to node.sock. */
struct node_guest {
    struct list_link link; /* on node->guests */
    struct node *node;
    struct channel channel;
    struct loop_timer timer; /* until it has said who it is */
    pid_t pid;               /* of who connected */
    int brought;             /* the descriptor that came with its hello; -1: none */
    bool returns;            /* a process of an earlier node says hello */
    bool greeted;            /* it is, or was, the controller, or a process that was taken back */
    bool list_wanted;        /* asked while processes are still being taken back */
};

/* A warm interpreter: forks replicas of one environment (node_zygote.c). */
enum zygote_state {
    ZYGOTE_AWAY,    /* no process: it waits to be started again */
    ZYGOTE_LOADING, /* imports what its replicas need */
    ZYGOTE_WARM,
    ZYGOTE_UNFIT,   /* must not fork: its replicas are started by themselves */
    ZYGOTE_ENDING,  /* nobody needs it */
};

struct node_zygote {
    struct list_link link; /* on node->zygotes, the one used last at the end */
    struct node *node;
    char key[NODE_ZYGOTE_KEY_SIZE]; /* what its environment is known by */
    char *interpreter, *load;       /* null load: only a process that started us knew */
    char **environment;             /* of its process; null as `load` */
    enum zygote_state state;
    struct child child;
    bool running;
    int socket; /* to it and to what it is forking; -1: none */
    struct loop_watch watch;
    struct loop_timer timer; /* AWAY: its start; WARM: a fork is late, or nobody needs it */
    struct list waiting;     /* struct node_replica: not asked for yet */
    struct list forking;     /* struct node_replica: asked for */
    uint32_t users;          /* replicas that it is kept for */
    uint32_t deaths;         /* since it last forked */
    int64_t started_ns;
};

struct node {
    struct node_options options;
    struct settings settings;
    struct instance instance;
    struct loop *loop;
    struct channel_set channels;
    enum node_phase phase;
    struct loop_timer phase_timer;
    uint32_t signals;    /* that asked for the end */
    int failed;          /* why the instance did not start: a negative error code */
    bool owns_directory; /* nothing of the instance lives but what this node knows */
    bool returning;      /* processes of an earlier node are being taken back */
    bool took_back;      /* there were some */
    bool killed_silent;  /* those that said nothing in time */
    struct loop_timer return_timer;

    int http_port; /* bound; -1: none */
    int http_listener, controller_listener;
    struct loop_watch desk_watch, parent_watch;
    struct loop_timer desk_timer; /* set while descriptors for guests lack */
    int parent_link;              /* to who started us; -1: none */
    int lifeline[2];              /* [0] stays here, [1] is every child's (parent.h) */

    char libexec[NODE_PATH_SIZE];
    char instance_variable[INSTANCE_NAME_SIZE + 16]; /* MANTA_INSTANCE, for user code */
    char log_level[16], request_timeout[64], keep_alive[64], socket_variable[160];
    char **environment;         /* of the controller */
    char **proxy_environment;   /* with the HTTP settings */
    char **replica_environment; /* with where its stderr is read */

    struct node_role controller, proxies[NODE_PROXY_LIMIT];
    int proxy_count;
    struct map replicas; /* struct node_replica by id */
    uint32_t replicas_running;
    struct list untold; /* struct node_replica, oldest first */
    struct list zygotes;
    uint32_t zygotes_running;
    struct list guests;
    struct node_guest *controller_guest; /* null: it is away */
};

/* node_options.c: 0, or ERROR_INVALID with a text. */
int node_options_read(struct node_options *options, int argument_count, char **arguments,
                      struct error *reterr);
/* Processors that this process may use, at least 1: affinity and the control group's quota. */
int node_usable_cores(void);
/* The number of proxies for so many cores: one up to two cores, else half of them, at most four. */
int node_proxies_for_cores(int cores);

/* node.c */
int node_open(struct node *node, const struct node_options *options, struct error *reterr);
void node_close(struct node *node);
/* Once nobody is left to be taken back: sockets that nobody kept, roles that do not run.  An error
 * ends the node and leaves what lives alone. */
int node_begin(struct node *node, struct error *reterr);
/* The controller stands: tells who started the instance. */
void node_on_controller(struct node *node);
/* Ends everything; proxies have `drain_ms` to finish. */
void node_end(struct node *node, const char *reason, int64_t drain_ms);
/* Something that a phase of the end may wait for is gone. */
void node_check_end(struct node *node);
/* "error <code> <text>" to who started us. */
void node_tell_failure(int parent_descriptor, const struct error *error);

/* node_role.c */
void node_role_init(struct node_role *role, struct node *node, int number);
void node_role_start(struct node_role *role);
/* An earlier node's process: it is watched from here on.  False: it is gone, or another one. */
bool node_role_adopt(struct node_role *role, pid_t pid, uint64_t started);
/* Ends, and is not started again. */
void node_role_retire(struct node_role *role);
void node_role_signal(struct node_role *role, int signal_number);
/* The common last arguments: how to log.  Returns how many were written (at most 7). */
size_t node_log_arguments(const struct node *node, const char **list);

/* node_replica.c */
int node_replica_start(struct node *node, const struct wire_replica_start *start,
                       struct node_replica **ret_replica, struct error *reterr);
/* As node_role_adopt; whose it is, and what it writes, it says itself. */
struct node_replica *node_replica_adopt(struct node *node, uint64_t id, pid_t pid,
                                        uint64_t started);
void node_replica_name(struct node_replica *replica, struct bytes app, struct bytes deployment);
/* Its process runs, with stderr's other end at `replica->words_descriptor`: it is watched. */
void node_replica_run(struct node_replica *replica, pid_t pid);
/* By a program of its own, as its order says; the order is gone when it runs. */
int node_replica_execute(struct node_replica *replica, struct error *reterr);
/* It cannot be started: the controller hears why, and it is forgotten. */
void node_replica_give_up(struct node_replica *replica, const struct error *error);
void node_replica_signal(struct node_replica *replica, bool kill);
/* Of one that ended: it was told, or nobody will be. */
void node_replica_forget(struct node_replica *replica);

/* node_words.c */
void node_words_init(struct node_replica *replica);
/* Takes over where its stderr is read. */
void node_words_take(struct node_replica *replica, int descriptor);
/* Its process group is dead: what the pipe holds is all there will be. */
void node_words_take_last(struct node_replica *replica);
void node_words_close(struct node_replica *replica);

/* node_program.c */
struct node_program {
    char path[NODE_PATH_SIZE + 32], id[24], version_hash[24];
    char log_level[16], log_directory[NODE_PATH_SIZE];
    const char *list[NODE_ARGUMENT_LIMIT]; /* points into the struct and the node */
};
bool node_program_knows(struct bytes runner);
/* The path of the interpreter; null when the runner is none. */
const char *node_program_interpreter(const char *runner);
void node_program_fill(struct node_program *program, const struct node_replica *replica);
/* What the document of a Python replica says of its process. */
struct node_surroundings {
    struct bytes key, load; /* of its zygote; empty: it wants none */
    struct bytes variables; /* a map: of the environment */
    struct bytes defaults;  /* a map: where the environment says nothing */
    int log_level;          /* 0: the instance's */
    const char *log_encoding;
    struct bytes log_directory; /* empty: the instance's */
};
void node_program_read(const struct node_order *order, struct node_surroundings *ret);
/* `base`, whose strings are borrowed, and the variables: one piece of memory, the caller's. */
char **node_program_environment(char *const *base, const struct node_surroundings *given);

/* node_zygote_link.c: what is said between the node and a zygote; 0 or -errno. */
enum zygote_says {
    ZYGOTE_SAYS_NOTHING, /* that we understand */
    ZYGOTE_SAYS_WARM,
    ZYGOTE_SAYS_UNFIT,
    ZYGOTE_SAYS_HERE,
    ZYGOTE_SAYS_FAILED,
    ZYGOTE_SAYS_END, /* it, and all that it was forking, has hung up */
};
struct node_zygote_word {
    enum zygote_says type;
    uint64_t replica;
    pid_t pid;
    char text[ERROR_TEXT_SIZE];
};
int node_zygote_pair(int *ret_ours, int *ret_theirs);
int node_zygote_send_load(const struct node_zygote *zygote);
int node_zygote_send_fork(const struct node_zygote *zygote, const struct node_replica *replica);
/* False: nothing more now. */
bool node_zygote_hear(const struct node_zygote *zygote, struct node_zygote_word *ret_word);

/* node_zygote.c */
/* The one that the process which became the node forked before, if it did. */
void node_zygote_inherit(struct node *node);
/* True: a zygote makes the replica, now or when it is warm.  False: it is started by itself. */
bool node_zygote_take(struct node_replica *replica, const struct node_surroundings *given);
/* It was asked for, and has not spoken. */
bool node_zygote_is_forking(const struct node_replica *replica);
/* The replica is gone, or will not be. */
void node_zygote_release(struct node_replica *replica);
/* What was said so far is heard: of children that may have ended since. */
void node_zygotes_hear(struct node *node);
void node_zygotes_signal(struct node *node, int signal_number);
void node_zygotes_close(struct node *node);

/* node_desk.c */
int node_desk_open(struct node *node, struct error *reterr);
void node_desk_close(struct node *node);
/* Tells the controller that a replica runs, or that it could not be started. */
void node_desk_tell_start(struct node *node, const struct node_replica *replica);
void node_desk_tell_failure(struct node *node, uint64_t replica, const struct error *error);
/* Tells the controller of the exits that it has not heard of. */
void node_desk_tell_exits(struct node *node);
/* Answers the lists that were asked for while processes were taken back. */
void node_desk_tell_lists(struct node *node);

/* node_return.c */
/* Does any process of the instance live? */
bool node_return_finds(struct node *node);
/* Claims them, and waits for what they say.  What this node starts comes after that. */
void node_return_begin(struct node *node);
/* A claimed one spoke, or is gone: perhaps it was the last. */
void node_return_check(struct node *node);
/* False: it is not taken. */
bool node_return_take(struct node_guest *guest, const struct wire_role_here *here);
/* Watches a process by its id, when that is still the one that started then. */
bool node_return_adopt(struct node *node, struct child *child, pid_t pid, uint64_t started,
                       void (*exit)(void *owner, struct child *child, int exit_code,
                                    int signal_number),
                       void *owner);

#endif
