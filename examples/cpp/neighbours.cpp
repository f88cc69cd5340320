/* SPDX-License-Identifier: Apache-2.0 */
/*
 * neighbours: classification by the nearest neighbours, as two classes.
 *
 *     client --HTTP--> classifier --handle--> searcher
 *
 *     POST /  {"rows": [[64 numbers], ...]}
 *             {"predictions": [3, ...], "shares": [0.8, ...], "neighbours": [[{"label": 3,
 * "distance": 12.5}, ...], ...]}
 *
 * The searcher holds labelled points and finds the ones nearest to a query, exactly; requests that
 * come at about the same time share one pass over the points (call_batch).  The classifier asks it
 * through a handle and lets the neighbours vote. How many vote is its user_config: {"k": 5}.
 */
#include <algorithm>
#include <atomic>
#include <cmath>
#include <map>
#include <string>
#include <vector>

#include <manta/manta.hpp>

#include "vectors.hpp"

namespace
{

constexpr std::size_t ROW_LIMIT = 256; /* of one request */
constexpr std::int64_t K_LIMIT = 100;

/* ---- searcher ------------------------------------------------------------------------- */

class searcher
{
  public:
    explicit searcher(const manta::replica &replica)
        : points_(replica.args().get<std::string>(0), replica.args().get<std::size_t>(1))
    {
        replica.log(20, "searches " + std::to_string(points_.size()) + " points of " +
                            std::to_string(points_.dimensions()) + " dimensions");
    }

    /* Each request is search(rows, k); it gets [[label, distance, label, distance, ...], ...]. */
    void call_batch(manta::batch requests)
    {
        std::vector<job> jobs;
        queries_.clear();
        std::size_t k_most = 0;
        for (manta::request &request : requests) {
            /* What is wrong with one request is its own affair. */
            try {
                jobs.push_back(read(request));
                k_most = std::max(k_most, jobs.back().k);
            } catch (const manta::error &wrong) {
                request.fail(wrong.code(), wrong.what());
            }
        }
        if (jobs.empty())
            return;
        points_.search(queries_, k_most, found_);
        std::size_t width = found_.size() / (queries_.size() / points_.dimensions());
        for (const job &each : jobs)
            answer(each, width);
    }

  private:
    struct job {
        manta::request *request;
        std::size_t first_row, row_count, k;
    };

    job read(manta::request &request)
    {
        manta::value rows = request.args()[0];
        std::size_t dimensions = points_.dimensions(), before = queries_.size();
        job made = {&request, before / dimensions, rows.size(), request.args().get<std::size_t>(1)};
        if (rows.type() != MANTA_ARRAY || made.row_count < 1 || made.row_count > ROW_LIMIT)
            throw manta::error(MANTA_EINVALID,
                               "a request has 1 to " + std::to_string(ROW_LIMIT) + " rows");
        try {
            std::size_t number = 0;
            for (manta::value row : rows)
                read_row(row, number++);
        } catch (...) {
            queries_.resize(before);
            throw;
        }
        return made;
    }

    void read_row(const manta::value &row, std::size_t number)
    {
        std::size_t dimensions = points_.dimensions(), count = 0;
        row_.resize(dimensions);
        try {
            if (row.type() == MANTA_ARRAY && row.size() == dimensions)
                count = row.floats(row_.data(), row_.size());
        } catch (const manta::error &) {
            /* Something in it is no number: told below, with the row. */
        }
        /* A float's largest square root, so that no distance is infinite. */
        if (count != dimensions || std::any_of(row_.begin(), row_.end(), [](double coordinate) {
                return !(std::fabs(coordinate) <= 1e15);
            }))
            throw manta::error(MANTA_EINVALID, "row " + std::to_string(number) + " has not " +
                                                   std::to_string(dimensions) + " numbers");
        queries_.insert(queries_.end(), row_.begin(), row_.end());
    }

    /* `width` neighbours were found for every row, for the one that wanted most. */
    void answer(const job &asked, std::size_t width)
    {
        std::size_t wanted = std::min(asked.k, width);
        manta::pack all;
        all.array(asked.row_count);
        for (std::size_t row = 0; row < asked.row_count; row++) {
            const neighbour *nearest = &found_[(asked.first_row + row) * width];
            all.array(wanted * 2);
            for (std::size_t i = 0; i < wanted; i++)
                all.add(nearest[i].label).add(std::sqrt(nearest[i].distance));
        }
        asked.request->reply(all);
    }

    vectors points_;
    /* Of one batch: one thread runs them one after the other. */
    std::vector<float> queries_;
    std::vector<double> row_;
    std::vector<neighbour> found_;
};

/* ---- classifier ----------------------------------------------------------------------- */

class classifier
{
  public:
    explicit classifier(const manta::replica &replica) : searcher_(replica.args().handle(0))
    {
    }

    /* While requests run, so k is atomic. */
    void reconfigure(std::string_view user_config)
    {
        manta::pack config;
        std::int64_t k = config.json(user_config).as_value()["k"].as<std::int64_t>();
        if (k < 1 || k > K_LIMIT)
            throw manta::error(MANTA_EINVALID, "k is 1 to " + std::to_string(K_LIMIT));
        k_ = k;
    }

    void operator()(manta::request &request)
    {
        if (request.is_http() && request.method() != "POST") {
            request.add_header("allow", "POST");
            request.reply_http(405, "text/plain", "rows are sent by POST\n");
            return;
        }
        manta::call_options options;
        options.parent = request.raw(); /* its deadline, and its end when the client leaves */
        manta::value rows = request.is_http() ? request.value()["rows"] : request.args()[0];
        manta::call found = searcher_.call(options, rows, k_.load());
        found.wait();
        request.reply(vote(found.value()));
    }

  private:
    static manta::pack vote(const manta::value &found)
    {
        std::vector<int> predictions;
        std::vector<double> shares;
        for (manta::value row : found) {
            winner won = winner_of(row);
            predictions.push_back(won.label);
            shares.push_back(won.share);
        }
        manta::pack answer;
        answer.map(3).pair("predictions", predictions).pair("shares", shares);
        answer.add("neighbours").array(found.size());
        for (manta::value row : found)
            add_neighbours(answer, row);
        return answer;
    }

    struct winner {
        int label;
        double share;
    };

    /* The label with the most votes; of equals the one whose first vote is nearest. */
    static winner winner_of(const manta::value &row)
    {
        std::map<int, std::size_t> votes;
        std::size_t position = 0, voters = row.size() / 2;
        winner won = {0, 0};
        for (manta::value part : row)
            if (position++ % 2 == 0)
                votes[part.as<int>()]++;
        position = 0;
        for (manta::value part : row) {
            if (position++ % 2 != 0)
                continue;
            int label = part.as<int>();
            double share = static_cast<double>(votes[label]) / static_cast<double>(voters);
            if (share > won.share)
                won = {label, share};
        }
        return won;
    }

    static void add_neighbours(manta::pack &answer, const manta::value &row)
    {
        answer.array(row.size() / 2);
        bool is_label = true;
        for (manta::value part : row) {
            if (is_label)
                answer.map(2);
            answer.pair(is_label ? "label" : "distance", part);
            is_label = !is_label;
        }
    }

    manta::handle searcher_;
    std::atomic<std::int64_t> k_{5};
};

} /* namespace */

MANTA_DEPLOYMENT_CLASS(searcher, [](manta_deployment &options) {
    options.max_batch_size = 64;
    options.batch_wait_timeout_s = 0.001;
    options.max_ongoing_requests = 256;
});

/* Each thread waits for one search at a time, so that there are as many threads as requests. */
MANTA_DEPLOYMENT_CLASS(classifier, [](manta_deployment &options) {
    options.threads = 16;
    options.max_ongoing_requests = 16;
    options.user_config = "{\"k\": 5}";
});

/* manta run libneighbours.so:neighbours points=points.csv hold_out=5 k=3 replicas=2 */
MANTA_APPLICATION_BUILDER(neighbours)
{
    manta_deployment search = manta::deployment_of<searcher>();
    manta_deployment classify = manta::deployment_of<classifier>();
    std::string config = "{\"k\": " + std::to_string(app.integer("k", 5)) + "}";
    classify.user_config = config.c_str();
    search.num_replicas = static_cast<std::int32_t>(app.integer("replicas", 1));
    return app.bind_deployment(
        classify, app.bind_deployment(search, app.argument("points", NEIGHBOURS_POINTS),
                                      app.integer("hold_out", 0)));
}
