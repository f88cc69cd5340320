/* SPDX-License-Identifier: Apache-2.0 */
/*
 * galleries: many models behind one route, as one class: each is a file of labelled points, loaded
 * when a request first names it.
 *
 *     POST /  serve_multiplexed_model_id: even
 *             {"rows": [[64 numbers], ...]}  ->  {"gallery": "even", "labels": [4, ...]}
 *
 * What load_model makes is owned by the replica: used by reference until the request is answered,
 * and ended when room is needed for another one.
 */
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include <manta/manta.hpp>

#include "vectors.hpp"

namespace
{

constexpr std::size_t ROW_LIMIT = 256; /* of one request */

class gallery
{
  public:
    explicit gallery(const manta::replica &replica)
        : directory_(replica.args().get<std::string>(0))
    {
    }

    /* An id is a file's name without its end; what is not there, or is no such file, says so to
     * whoever asked. */
    std::unique_ptr<vectors> load_model(std::string_view id)
    {
        if (id.find('/') != std::string_view::npos)
            throw manta::error(MANTA_EINVALID, "a gallery's name has no '/'");
        try {
            return std::make_unique<vectors>(directory_ + "/" + std::string(id) + ".csv", 0);
        } catch (const std::runtime_error &wrong) { /* the client's choice: 404 with the reason */
            throw manta::error(MANTA_ENOTFOUND, wrong.what());
        }
    }

    void operator()(manta::request &request)
    {
        const vectors &points = request.model<vectors>();
        std::vector<float> queries;
        manta::value asked = request.value(), rows = asked["rows"];
        if (rows.type() != MANTA_ARRAY || rows.size() < 1 || rows.size() > ROW_LIMIT)
            throw manta::error(MANTA_EINVALID,
                               "a request has 1 to " + std::to_string(ROW_LIMIT) + " rows");
        for (manta::value row : rows)
            add_row(row, points.dimensions(), queries);
        std::vector<neighbour> found;
        points.search(queries, 1, found);
        std::vector<int> labels;
        for (const neighbour &nearest : found)
            labels.push_back(nearest.label);
        manta::pack answer;
        answer.map(2).pair("gallery", request.model_id()).pair("labels", labels);
        request.reply(answer);
    }

  private:
    static void add_row(const manta::value &row, std::size_t dimensions,
                        std::vector<float> &queries)
    {
        std::vector<double> numbers(dimensions);
        if (row.type() != MANTA_ARRAY || row.size() != dimensions ||
            row.floats(numbers.data(), numbers.size()) != dimensions)
            throw manta::error(MANTA_EINVALID,
                               "a row of this gallery has " + std::to_string(dimensions) +
                                   " numbers");
        queries.insert(queries.end(), numbers.begin(), numbers.end());
    }

    std::string directory_;
};

} /* namespace */

MANTA_DEPLOYMENT_CLASS(gallery, [](manta_deployment &options) {
    options.max_models = 2;
    options.threads = 4;
    options.max_ongoing_requests = 64;
});

MANTA_APPLICATION_BUILDER(galleries)
{
    return app.bind<gallery>(app.argument("directory", "."));
}
